import subprocess
import sys


def test_importing_the_package_is_light_and_names_load_on_first_use() -> None:
    code = (
        "import sys, safesweep, safesweep.analysis; "
        "heavy = {'duckdb', 'pandas', 'matplotlib', 'torch', 'ray'}; "
        "assert not heavy & set(sys.modules), heavy & set(sys.modules); "
        "assert safesweep.ResultStore.__name__ == 'ResultStore'; "
        "assert not {'torch', 'ray'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
