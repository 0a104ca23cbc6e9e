"""First import of the package `registry`: this module puts the package of this checkout into its own place."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

_folder = Path(__file__).resolve().parents[3] / "registry"
_spec = spec_from_file_location("registry", _folder / "__init__.py", submodule_search_locations=[str(_folder)])
assert _spec is not None and _spec.loader is not None
sys.modules["registry"] = _package = module_from_spec(_spec)
_spec.loader.exec_module(_package)
