"""Pictures of a sweep: what they show (`sweep_results`, `measures`) and how (`figures`)."""
