"""Choose the writer of a snippet by the platform and the runner."""

from collections.abc import Callable

from ....errors import UsageError
from ....manifest import Manifest
from ...recipe.targets import TARGETS, Platform, targets_for
from .common import Snippet, SnippetModel
from .javascript import javascript_snippet
from .kotlin import kotlin_executorch, kotlin_litert, kotlin_onnxruntime
from .swift import swift_coreml, swift_executorch, swift_onnxruntime

Writer = Callable[[SnippetModel], Snippet]


def snippet(manifest: Manifest, platform: Platform) -> Snippet:
    """Return the source for a bundle on a platform.

    Raise UsageError where the bundle's target does not run there, or a dtype is not known.
    """
    entry = TARGETS.get(manifest.target)
    if entry is None or platform not in entry.platforms:
        fitting = ", ".join(targets_for(platform))
        raise UsageError(
            f"a bundle for target {manifest.target} does not run on {platform}: export the model again with --target, one of {fitting}"
        )
    return WRITERS[platform][entry.runner](SnippetModel.of(manifest))


WRITERS: dict[Platform, dict[str, Writer]] = {
    "android": {"onnxruntime": kotlin_onnxruntime, "executorch": kotlin_executorch, "litert": kotlin_litert},
    "ios": {"onnxruntime": swift_onnxruntime, "executorch": swift_executorch, "coreml": swift_coreml},
    "web": {"onnxruntime": javascript_snippet},
}
"""By platform and runner."""
