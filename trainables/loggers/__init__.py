"""Results for other tools: TensorBoard, MLflow, Weights & Biases and CSV.

Each module holds a `RunLog` of its tool and an observer of it in OBSERVERS, so that it is a plugin:
`--plugin safesweep.trainables.loggers.tensorboard` logs every run while it trains. `safesweep
export` writes the same from a store.
"""
