from safesweep.trainables.store.identity import config_id


def test_full_precision_is_no_part_of_a_configurations_identity() -> None:
    def identity(**config: object) -> str:
        return config_id("bc", config, "task", "data", 10)

    plain = identity(hidden_dim=64)
    assert identity(hidden_dim=64, matmul_precision="fp32") == plain
    assert identity(hidden_dim=64, matmul_precision="bf16") != plain
