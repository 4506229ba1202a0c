import subprocess
import sys

import pytest

from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.methods.configs import CONFIGS, config_class_of
from safesweep.trainables.methods.printed_only import PRINTED_ONLY
from safesweep.trainables.methods.registry import ALGORITHMS, find_method


def test_every_method_has_its_configuration_at_hand() -> None:
    own = {n: m for n, m in ALGORITHMS.items() if m.__module__.startswith("safesweep.")}
    assert list(own) == list(CONFIGS)
    for name, method in own.items():
        config = CONFIGS[name]
        assert method.config_class is config, name
        assert method.policies == config.policies and config.policies, name
        assert method.further_policies == config.further_policies, name
        assert config.summary.endswith("."), name


def test_methods_are_listed_and_checked_without_torch() -> None:
    code = (
        "import sys\n"
        "from safesweep.sweeps.cli import main\n"
        "from safesweep.sweeps.spec.sweep_spec import SweepSpec\n"
        "from safesweep.trainables.methods.configs import CONFIGS\n"
        "assert main(['algorithms', '--format', 'json']) == 0\n"
        "assert main(['space', 'cdt', '--format', 'json']) == 0\n"
        "SweepSpec.from_mapping({'name': 's', 'algorithm': list(CONFIGS), 'steps': 10,"
        " 'tasks': ['BoatNavigation-v0'], 'search': {'method': 'random', 'num_configs': 2}})\n"
        "assert not {'torch', 'ray'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("name", ["trebi", "Cal-QL", "nothing-like-it"])
def test_with_and_without_the_methods_the_same_is_said_of_unknown_ones(name: str) -> None:
    with pytest.raises(InvalidInput) as of_method:
        find_method(name)
    with pytest.raises(InvalidInput) as of_config:
        config_class_of(name)
    assert str(of_method.value) == str(of_config.value)
    printed = name.lower().replace("-", "") in PRINTED_ONLY
    assert ("cannot be run" in str(of_config.value)) == printed
