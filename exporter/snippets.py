"""Source code that runs an artifact on a phone or in a page, written out for its own inputs, outputs, dtypes and shapes.

Each is one small class for one text at a time: `run` takes token ids and gives every output by name, row by row as one list with
its shape. Python's standard library is all that is needed here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .bundle import Manifest, TensorInfo
from .errors import UsageError

FOLDER = "headway"
"""Name of the asset folder on a phone, and of the Kotlin package."""


@dataclass(frozen=True)
class Snippet:
    """`file` is the source's name, `dependencies` what an app has to add, one line each."""

    file: str
    text: str
    dependencies: tuple[str, ...]


def snippet(manifest: Manifest, platform: str) -> Snippet:
    """The source for a bundle's target on a platform. UsageError where they do not go together, or a dtype is not known."""
    writers = WRITERS[platform]
    writer = writers.get(manifest.target)
    if writer is None:
        fitting = ", ".join(writers)
        raise UsageError(
            f"a bundle for target {manifest.target} does not run on {platform}: export the model again with --target, one of {fitting}"
        )
    return writer(_Model.of(manifest))


@dataclass(frozen=True)
class _Model:
    """A manifest as the snippets need it."""

    artifact: str
    inputs: Sequence[TensorInfo]
    outputs: Sequence[TensorInfo]
    longest: int
    labels: Sequence[str]
    config: Mapping[str, str] = field(default_factory=dict)
    version: str = ""

    @classmethod
    def of(cls, manifest: Manifest) -> "_Model":
        for tensor in manifest.outputs:
            if tensor.dtype != "float32":
                raise UsageError(f"output {tensor.name!r} is {tensor.dtype}; snippets are written for float32 outputs")
        return cls(
            manifest.artifact,
            manifest.inputs,
            manifest.outputs,
            manifest.tokenizer.max_length,
            [manifest.labels[k] for k in sorted(manifest.labels, key=int)],
            {k: str(v) for k, v in manifest.session_options.get("config", {}).items()},
            manifest.headway_version,
        )

    @property
    def file(self) -> str:
        return self.artifact.rpartition("/")[2]

    @property
    def ids(self) -> str:
        """The first input, by whose length the others are filled."""
        return _camel(self.inputs[0].name)

    @property
    def choices(self) -> bool:
        return any("choices" in t.shape for t in self.inputs)

    def about(self) -> list[str]:
        """Inputs and outputs in words."""
        return [
            f"{kind} {t.name}: {t.dtype} [{', '.join(map(str, t.shape))}]"
            for kind, tensors in (("input", self.inputs), ("output", self.outputs))
            for t in tensors
        ]

    def head(self, comment: str = "//") -> str:
        lines = [f"Written by Headway {self.version} for {self.file}.", *self.about()]
        return "\n".join(f"{comment} {line}" for line in lines)


def _camel(name: str) -> str:
    first, *rest = [p for p in "".join(c if c.isalnum() else "_" for c in name).split("_") if p]
    return first.lower() + "".join(p[:1].upper() + p[1:] for p in rest)


def _quoted(values: Sequence[str]) -> str:
    """String literals, which Kotlin, Swift and JavaScript write alike but for `$`, which Kotlin reads."""
    return ", ".join('"' + v.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") + '"' for v in values)


def _kotlin_strings(values: Sequence[str]) -> str:
    return _quoted(values).replace("$", "\\$")


def _fill(tensor: TensorInfo) -> int:
    """What an input holds where nobody says otherwise: masks are ones."""
    return 1 if tensor.name == "attention_mask" else 0


def _known(dtype: str, names: Mapping[str, str]) -> str:
    if dtype not in names:
        raise UsageError(f"an input of dtype {dtype} has no form in this snippet; known: {', '.join(names)}")
    return names[dtype]


_KOTLIN = {"int64": "Long", "int32": "Int"}
_SWIFT = {"int64": "Int64", "int32": "Int32"}
_CORE_ML = {"int64": "Int32", "int32": "Int32"}
"""Packages take int32 alone."""


def _kotlin_parameters(model: _Model) -> str:
    lines = []
    for i, tensor in enumerate(model.inputs):
        kind = _known(tensor.dtype, _KOTLIN)
        default = (
            "" if i == 0 else f" = {kind}Array({model.ids}.size) {{ {_fill(tensor)}{'L' if kind == 'Long' else ''} }}"
        )
        lines.append(f"        {_camel(tensor.name)}: {kind}Array{default},")
    if model.choices:
        lines.append("        choices: Int = 2,")
    return "\n".join(lines)


def _kotlin_shape(model: _Model) -> str:
    inner = (
        f"choices.toLong(), ({model.ids}.size / choices).toLong()" if model.choices else f"{model.ids}.size.toLong()"
    )
    return f"longArrayOf(1L, {inner})"


def _kotlin_constants(model: _Model) -> str:
    lines = [f"        const val MAX_LENGTH = {model.longest}"]
    lines.append(f"        val OUTPUTS = listOf({_kotlin_strings([o.name for o in model.outputs])})")
    if model.labels:
        lines.append(f"        val LABELS = listOf({_kotlin_strings(model.labels)})")
    return "\n".join(lines)


_KOTLIN_RESULT = """    /** One output, row after row. */
    class Result(val values: FloatArray, val shape: LongArray)
"""


def _kotlin_onnxruntime(model: _Model) -> Snippet:
    feeds = "\n".join(
        f'            "{t.name}" to OnnxTensor.createTensor(environment, '
        f"{_known(t.dtype, _KOTLIN)}Buffer.wrap({_camel(t.name)}), shape),"
        for t in model.inputs
    )
    entries = "".join(
        f"\n        addConfigEntry({_kotlin_strings([k])}, {_kotlin_strings([v])})" for k, v in model.config.items()
    )
    buffers = "\n".join(f"import java.nio.{b}Buffer" for b in sorted({_known(t.dtype, _KOTLIN) for t in model.inputs}))
    text = f"""{model.head()}
package {FOLDER}

import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtSession
import android.content.Context
{buffers}

class Model(context: Context, threads: Int = 1) : AutoCloseable {{
    private val environment = OrtEnvironment.getEnvironment()
    private val options = OrtSession.SessionOptions().apply {{
        setIntraOpNumThreads(threads){entries}
    }}
    private val session = environment.createSession(
        context.assets.open("{FOLDER}/{model.file}").use {{ it.readBytes() }},
        options,
    )

{_KOTLIN_RESULT}
    fun run(
{_kotlin_parameters(model)}
    ): Map<String, Result> {{
        val shape = {_kotlin_shape(model)}
        require(shape.last() in 1..MAX_LENGTH) {{ "1 to $MAX_LENGTH tokens are taken, not ${{shape.last()}}" }}
        val feeds = mapOf(
{feeds}
        )
        try {{
            session.run(feeds).use {{ results ->
                return OUTPUTS.associateWith {{ name ->
                    val tensor = results.get(name).get() as OnnxTensor
                    val buffer = tensor.floatBuffer
                    Result(FloatArray(buffer.remaining()).also {{ buffer.get(it) }}, tensor.info.shape)
                }}
            }}
        }} finally {{
            feeds.values.forEach {{ it.close() }}
        }}
    }}

    override fun close() {{
        session.close()
        options.close()
    }}

    companion object {{
{_kotlin_constants(model)}
    }}
}}
"""
    return Snippet(
        "Model.kt", text, ('implementation("com.microsoft.onnxruntime:onnxruntime-android:latest.release")',)
    )


def _kotlin_executorch(model: _Model) -> Snippet:
    values = "\n".join(
        f"            EValue.from(Tensor.fromBlob({_camel(t.name)}, shape)),"
        for t in model.inputs
        if _known(t.dtype, _KOTLIN)
    )
    text = f"""{model.head()}
package {FOLDER}

import android.content.Context
import java.io.File
import org.pytorch.executorch.EValue
import org.pytorch.executorch.Module
import org.pytorch.executorch.Tensor

class Model(context: Context) : AutoCloseable {{
    private val module = Module.load(copied(context).absolutePath)

{_KOTLIN_RESULT}
    fun run(
{_kotlin_parameters(model)}
    ): Map<String, Result> {{
        val shape = {_kotlin_shape(model)}
        require(shape.last() in 1..MAX_LENGTH) {{ "1 to $MAX_LENGTH tokens are taken, not ${{shape.last()}}" }}
        val results = module.forward(
{values}
        )
        return OUTPUTS.withIndex().associate {{ (place, name) ->
            val tensor = results[place].toTensor()
            name to Result(tensor.dataAsFloatArray, tensor.shape())
        }}
    }}

    override fun close() = module.destroy()

    companion object {{
{_kotlin_constants(model)}

        /** The runtime reads programs from files, not from assets. */
        private fun copied(context: Context): File {{
            val file = File(context.filesDir, "{model.file}")
            context.assets.open("{FOLDER}/{model.file}").use {{ from -> file.outputStream().use {{ from.copyTo(it) }} }}
            return file
        }}
    }}
}}
"""
    return Snippet("Model.kt", text, ('implementation("org.pytorch:executorch-android:latest.release")',))


def _kotlin_litert(model: _Model) -> Snippet:
    writes = "\n".join(
        f"        inputs[{i}].write{_known(t.dtype, _KOTLIN)}({_camel(t.name)}.copyOf(length))"
        for i, t in enumerate(model.inputs)
    )
    text = f"""{model.head()}
package {FOLDER}

import android.content.Context
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel

/** The file has a signature for each of `lengths`, smallest first, named by `signature`; texts are padded to the next. */
class Model(
    context: Context,
    private val lengths: List<Int>,
    private val signature: (Int) -> String,
) : AutoCloseable {{
    private val model = CompiledModel.create(
        context.assets,
        "{FOLDER}/{model.file}",
        CompiledModel.Options(Accelerator.CPU),
        null,
    )

    fun run(
{_kotlin_parameters(model)}
    ): Map<String, FloatArray> {{
        val length = requireNotNull(lengths.firstOrNull {{ it >= {model.ids}.size }}) {{
            "{model.ids}: ${{{model.ids}.size}} tokens are more than any signature takes"
        }}
        val name = signature(length)
        val inputs = model.createInputBuffers(name)
        val outputs = model.createOutputBuffers(name)
{writes}
        model.run(inputs, outputs, name)
        return OUTPUTS.withIndex().associate {{ (place, output) -> output to outputs[place].readFloat() }}
    }}

    override fun close() = model.close()

    companion object {{
{_kotlin_constants(model)}
    }}
}}
"""
    return Snippet("Model.kt", text, ('implementation("com.google.ai.edge.litert:litert:latest.release")',))


def _swift_inputs(model: _Model, dtypes: Mapping[str, str] = _SWIFT) -> list[str]:
    """The inputs as parameters; all but the first may be left out."""
    return [
        f"        {_camel(t.name)}: [{_known(t.dtype, dtypes)}]" + ("" if i == 0 else "? = nil")
        for i, t in enumerate(model.inputs)
    ]


def _swift_parameters(model: _Model) -> str:
    return ",\n".join(_swift_inputs(model) + (["        choices: Int = 2"] if model.choices else []))


def _swift_filled(model: _Model, dtypes: Mapping[str, str] = _SWIFT) -> str:
    """The inputs nobody gave."""
    lines = []
    for tensor in model.inputs[1:]:
        kind, name = _known(tensor.dtype, dtypes), _camel(tensor.name)
        lines.append(f"        let {name} = {name} ?? [{kind}](repeating: {_fill(tensor)}, count: {model.ids}.count)")
    return "\n".join(lines)


def _swift_constants(model: _Model) -> str:
    lines = [f"    static let maxLength = {model.longest}"]
    lines.append(f"    static let outputs = [{_quoted([o.name for o in model.outputs])}]")
    if model.labels:
        lines.append(f"    static let labels = [{_quoted(model.labels)}]")
    return "\n".join(lines)


def _swift_length(model: _Model) -> str:
    return f"{model.ids}.count / choices" if model.choices else f"{model.ids}.count"


_SWIFT_ERROR = """enum ModelError: Error {
    case missing(String)
    case length(Int)
}

/// One output, row after row.
struct ModelResult {
    let values: [Float]
    let shape: [Int]
}
"""


def _stem(model: _Model) -> tuple[str, str]:
    name, _, suffix = model.file.rpartition(".")
    return name, suffix


def _swift_resource(model: _Model) -> str:
    name, suffix = _stem(model)
    return f"""        guard let file = bundle.url(forResource: "{name}", withExtension: "{suffix}", subdirectory: "{FOLDER}") else {{
            throw ModelError.missing("{FOLDER}/{model.file}")
        }}"""


def _swift_onnxruntime(model: _Model) -> Snippet:
    elements = {"int64": ".int64", "int32": ".int32"}
    feeds = "\n".join(
        f'            "{t.name}": try tensor({_camel(t.name)}, {_known(t.dtype, elements)}, shape),'
        for t in model.inputs
    )
    shape = ["1", "choices", "length"] if model.choices else ["1", "length"]
    numbers = ", ".join(f"NSNumber(value: {s})" for s in shape)
    entries = "".join(
        f"\n        try options.addConfigEntry(withKey: {_quoted([k])}, value: {_quoted([v])})"
        for k, v in model.config.items()
    )
    text = f"""{model.head()}
import Foundation
import onnxruntime_objc

{_SWIFT_ERROR}
final class Model {{
{_swift_constants(model)}
    private let environment: ORTEnv
    private let session: ORTSession

    init(bundle: Bundle = .main, threads: Int32 = 1) throws {{
{_swift_resource(model)}
        let options = try ORTSessionOptions()
        try options.setIntraOpNumThreads(threads){entries}
        environment = try ORTEnv(loggingLevel: .warning)
        session = try ORTSession(env: environment, modelPath: file.path, sessionOptions: options)
    }}

    func run(
{_swift_parameters(model)}
    ) throws -> [String: ModelResult] {{
        let length = {_swift_length(model)}
        guard (1...Model.maxLength).contains(length) else {{ throw ModelError.length(length) }}
{_swift_filled(model)}
        let shape = [{numbers}]
        let feeds: [String: ORTValue] = [
{feeds}
        ]
        let results = try session.run(withInputs: feeds, outputNames: Set(Model.outputs), runOptions: nil)
        return try results.mapValues {{ value in
            let data = try value.tensorData() as Data
            let sizes = try value.tensorTypeAndShapeInfo().shape.map {{ $0.intValue }}
            return ModelResult(values: data.withUnsafeBytes {{ Array($0.bindMemory(to: Float.self)) }}, shape: sizes)
        }}
    }}

    private func tensor<T>(_ values: [T], _ type: ORTTensorElementDataType, _ shape: [NSNumber]) throws -> ORTValue {{
        let data = values.withUnsafeBufferPointer {{ NSMutableData(data: Data(buffer: $0)) }}
        return try ORTValue(tensorData: data, elementType: type, shape: shape)
    }}
}}
"""
    return Snippet("Model.swift", text, ("pod 'onnxruntime-objc'",))


def _swift_executorch(model: _Model) -> Snippet:
    shape = "[1, choices, length]" if model.choices else "[1, length]"
    values = "\n".join(
        f"            Tensor<{_known(t.dtype, _SWIFT)}>({_camel(t.name)}, shape: {shape})," for t in model.inputs
    )
    text = f"""{model.head()}
import ExecuTorch
import Foundation

{_SWIFT_ERROR}
final class Model {{
{_swift_constants(model)}
    private let module: Module

    init(bundle: Bundle = .main) throws {{
{_swift_resource(model)}
        module = Module(filePath: file.path)
        try module.load("forward")
    }}

    func run(
{_swift_parameters(model)}
    ) throws -> [String: ModelResult] {{
        let length = {_swift_length(model)}
        guard (1...Model.maxLength).contains(length) else {{ throw ModelError.length(length) }}
{_swift_filled(model)}
        let results: [Value] = try module.forward([
{values}
        ])
        var found: [String: ModelResult] = [:]
        for (name, value) in zip(Model.outputs, results) {{
            guard let tensor: Tensor<Float> = value.tensor() else {{ throw ModelError.missing(name) }}
            found[name] = ModelResult(values: tensor.scalars(), shape: tensor.shape)
        }}
        return found
    }}
}}
"""
    return Snippet(
        "Model.swift",
        text,
        (
            "Swift package github.com/pytorch/executorch: executorch, backend_xnnpack, kernels_optimized, kernels_quantized",
        ),
    )


def _swift_coreml(model: _Model) -> Snippet:
    name, _ = _stem(model)
    parameters = ",\n".join(_swift_inputs(model, _CORE_ML))
    feeds = "\n".join(f'            "{t.name}": try array({_camel(t.name)}),' for t in model.inputs)
    text = f"""{model.head()}
import CoreML
import Foundation

{_SWIFT_ERROR}
/// Xcode compiles {model.file} to {name}.mlmodelc when it is added to an app's target.
final class Model {{
{_swift_constants(model)}
    private let model: MLModel

    init(bundle: Bundle = .main) throws {{
        guard let file = bundle.url(forResource: "{name}", withExtension: "mlmodelc") else {{
            throw ModelError.missing("{name}.mlmodelc")
        }}
        model = try MLModel(contentsOf: file)
    }}

    func run(
{parameters}
    ) throws -> [String: ModelResult] {{
        guard (1...Model.maxLength).contains({model.ids}.count) else {{ throw ModelError.length({model.ids}.count) }}
{_swift_filled(model, _CORE_ML)}
        let feeds = try MLDictionaryFeatureProvider(dictionary: [
{feeds}
        ])
        let results = try model.prediction(from: feeds)
        var found: [String: ModelResult] = [:]
        for name in Model.outputs {{
            guard let value = results.featureValue(for: name)?.multiArrayValue else {{ throw ModelError.missing(name) }}
            let values = (0..<value.count).map {{ value[$0].floatValue }}
            found[name] = ModelResult(values: values, shape: value.shape.map {{ $0.intValue }})
        }}
        return found
    }}

    private func array(_ values: [Int32]) throws -> MLMultiArray {{
        let made = try MLMultiArray(shape: [1, NSNumber(value: values.count)], dataType: .int32)
        for (place, value) in values.enumerated() {{ made[place] = NSNumber(value: value) }}
        return made
    }}
}}
"""
    return Snippet("Model.swift", text, ("CoreML is part of iOS",))


def _javascript(model: _Model) -> Snippet:
    arrays = {"int64": "BigInt64Array", "int32": "Int32Array"}
    names = [_camel(t.name) for t in model.inputs]
    given = ", ".join([names[0], *(f"{n} = undefined" for n in names[1:])])
    feeds = "\n".join(
        f"      {t.name}: tensor({n}{'' if i == 0 else f' ?? {names[0]}.map(() => {_fill(t)})'}, "
        f'"{t.dtype}", {_known(t.dtype, arrays)}, shape),'
        for i, (t, n) in enumerate(zip(model.inputs, names, strict=True))
    )
    length = f"{names[0]}.length / choices" if model.choices else f"{names[0]}.length"
    shape = "[1, choices, length]" if model.choices else "[1, length]"
    config: dict[str, Any] = {}
    for key, value in model.config.items():
        *path, last = key.split(".")
        inner = config
        for part in path:
            inner = inner.setdefault(part, {})
        inner[last] = value
    text = f"""{model.head()}
import * as ort from "onnxruntime-web";

export const MAX_LENGTH = {model.longest};
export const OUTPUTS = [{_quoted([o.name for o in model.outputs])}];
export const LABELS = [{_quoted(model.labels)}];

export class Model {{
  constructor(session) {{
    this.session = session;
  }}

  /** `source`: where the file lies, or its bytes (Uint8Array). */
  static async open(source = new URL("./{model.artifact}", import.meta.url).href) {{
    return new Model(await ort.InferenceSession.create(source, {{ extra: {_javascript_object(config)} }}));
  }}

  /** Token ids of one text, as an array of numbers → outputs by name, {{ values: Float32Array, shape: number[] }}. */
  async run({{ {given}{", choices = 2" if model.choices else ""} }}) {{
    const length = {length};
    if (!(length >= 1 && length <= MAX_LENGTH)) {{
      throw new RangeError(`1 to ${{MAX_LENGTH}} tokens are taken, not ${{length}}`);
    }}
    const shape = {shape};
    const results = await this.session.run({{
{feeds}
    }});
    return Object.fromEntries(OUTPUTS.map((name) => [name, {{ values: results[name].data, shape: results[name].dims }}]));
  }}
}}

function tensor(values, dtype, Kind, shape) {{
  return new ort.Tensor(dtype, Kind.from(dtype === "int64" ? Array.from(values, BigInt) : values), shape);
}}
"""
    return Snippet("index.js", text, ("onnxruntime-web",))


def _javascript_object(value: Mapping[str, Any]) -> str:
    inside = ", ".join(
        f"{_quoted([k])}: {_javascript_object(v) if isinstance(v, Mapping) else _quoted([str(v)])}"
        for k, v in value.items()
    )
    return f"{{ {inside} }}" if inside else "{}"


WRITERS: dict[str, dict[str, Callable[[_Model], Snippet]]] = {
    "android": {"ort-mobile": _kotlin_onnxruntime, "executorch": _kotlin_executorch, "litert": _kotlin_litert},
    "ios": {"ort-mobile": _swift_onnxruntime, "executorch": _swift_executorch, "coreml": _swift_coreml},
    "web": {"ort-mobile": _javascript, "web": _javascript},
}
