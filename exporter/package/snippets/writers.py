"""Choose the writer of a snippet by the target and the platform."""

from collections.abc import Callable

from ....errors import UsageError
from ....manifest import Manifest
from .common import Snippet, SnippetModel
from .javascript import javascript_snippet
from .kotlin import kotlin_executorch, kotlin_litert, kotlin_onnxruntime
from .swift import swift_coreml, swift_executorch, swift_onnxruntime


def snippet(manifest: Manifest, platform: str) -> Snippet:
    """The source for a bundle's target on a platform. UsageError where they do not go together, or a dtype is not known."""
    writers = WRITERS[platform]
    writer = writers.get(manifest.target)
    if writer is None:
        fitting = ", ".join(writers)
        raise UsageError(
            f"a bundle for target {manifest.target} does not run on {platform}: export the model again with --target, one of {fitting}"
        )
    return writer(SnippetModel.of(manifest))


WRITERS: dict[str, dict[str, Callable[[SnippetModel], Snippet]]] = {
    "android": {"ort-mobile": kotlin_onnxruntime, "executorch": kotlin_executorch, "litert": kotlin_litert},
    "ios": {"ort-mobile": swift_onnxruntime, "executorch": swift_executorch, "coreml": swift_coreml},
    "web": {"ort-mobile": javascript_snippet, "web": javascript_snippet},
}
