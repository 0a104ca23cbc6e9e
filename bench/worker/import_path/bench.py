"""First import of the package `bench`: this module puts the package of this checkout into its own place."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

_folder = Path(__file__).resolve().parents[3] / "bench"
_spec = spec_from_file_location("bench", _folder / "__init__.py", submodule_search_locations=[str(_folder)])
assert _spec is not None and _spec.loader is not None
sys.modules["bench"] = _package = module_from_spec(_spec)
_spec.loader.exec_module(_package)
