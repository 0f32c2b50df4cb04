"""Training: recipes, the loop on Accelerate, checkpoints. Needs `pip install "piip[train]"`."""

import importlib.util

_NEEDED = ("accelerate", "tensorboard")
if absent := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
    raise ModuleNotFoundError(f'training needs {" and ".join(absent)}: pip install "piip[train]"')
