"""A machine where bundles are deployed: the libraries that only exporting needs cannot be imported there."""

HEAVY = [
    "torch",
    "transformers",
    "optimum",
    "onnx",
    "onnx_ir",
    "onnxscript",
    "pydantic",
    "yaml",
    "matplotlib",
    "safetensors",
]

BLOCKED = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {HEAVY}:
            raise ModuleNotFoundError(f"{{name}} is not for deploy time", name=name)
sys.meta_path.insert(0, Refuse())
"""
"""Put before a script, it refuses these imports."""
