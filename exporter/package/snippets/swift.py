"""Write Swift for iOS and macOS."""

from collections.abc import Mapping

from .common import FOLDER, Snippet, SnippetModel, camel_case, native_type, padding_value, quoted_list

_SWIFT = {"int64": "Int64", "int32": "Int32"}
_CORE_ML = {"int64": "Int32", "int32": "Int32"}
"""Packages take int32 alone."""


def _swift_inputs(model: SnippetModel, dtypes: Mapping[str, str] = _SWIFT) -> list[str]:
    """The inputs as parameters; all but the first may be left out."""
    return [
        f"        {camel_case(t.name)}: [{native_type(t.dtype, dtypes)}]" + ("" if i == 0 else "? = nil")
        for i, t in enumerate(model.inputs)
    ]


def _swift_parameters(model: SnippetModel) -> str:
    return ",\n".join(_swift_inputs(model) + (["        choices: Int = 2"] if model.choices else []))


def _swift_filled(model: SnippetModel, dtypes: Mapping[str, str] = _SWIFT) -> str:
    """The inputs nobody gave."""
    lines = []
    for tensor in model.inputs[1:]:
        kind, name = native_type(tensor.dtype, dtypes), camel_case(tensor.name)
        lines.append(
            f"        let {name} = {name} ?? [{kind}](repeating: {padding_value(tensor)}, count: {model.ids}.count)"
        )
    return "\n".join(lines)


def _swift_constants(model: SnippetModel) -> str:
    lines = [f"    static let maxLength = {model.longest}"]
    lines.append(f"    static let outputs = [{quoted_list([o.name for o in model.outputs])}]")
    if model.labels:
        lines.append(f"    static let labels = [{quoted_list(model.labels)}]")
    return "\n".join(lines)


def _swift_length(model: SnippetModel) -> str:
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


def _stem(model: SnippetModel) -> tuple[str, str]:
    name, _, suffix = model.file.rpartition(".")
    return name, suffix


def _swift_resource(model: SnippetModel) -> str:
    name, suffix = _stem(model)
    return f"""        guard let file = bundle.url(forResource: "{name}", withExtension: "{suffix}", subdirectory: "{FOLDER}") else {{
            throw ModelError.missing("{FOLDER}/{model.file}")
        }}"""


def swift_onnxruntime(model: SnippetModel) -> Snippet:
    elements = {"int64": ".int64", "int32": ".int32"}
    feeds = "\n".join(
        f'            "{t.name}": try tensor({camel_case(t.name)}, {native_type(t.dtype, elements)}, shape),'
        for t in model.inputs
    )
    shape = ["1", "choices", "length"] if model.choices else ["1", "length"]
    numbers = ", ".join(f"NSNumber(value: {s})" for s in shape)
    entries = "".join(
        f"\n        try options.addConfigEntry(withKey: {quoted_list([k])}, value: {quoted_list([v])})"
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


def swift_executorch(model: SnippetModel) -> Snippet:
    shape = "[1, choices, length]" if model.choices else "[1, length]"
    values = "\n".join(
        f"            Tensor<{native_type(t.dtype, _SWIFT)}>({camel_case(t.name)}, shape: {shape}),"
        for t in model.inputs
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


def swift_coreml(model: SnippetModel) -> Snippet:
    name, _ = _stem(model)
    parameters = ",\n".join(_swift_inputs(model, _CORE_ML))
    feeds = "\n".join(f'            "{t.name}": try array({camel_case(t.name)}),' for t in model.inputs)
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
