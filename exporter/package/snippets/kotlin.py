"""Write Kotlin for Android."""

from collections.abc import Sequence

from .common import FOLDER, Snippet, SnippetModel, camel_case, native_type, padding_value, quoted_list


def _kotlin_strings(values: Sequence[str]) -> str:
    return quoted_list(values).replace("$", "\\$")


_KOTLIN = {"int64": "Long", "int32": "Int"}


def _kotlin_parameters(model: SnippetModel) -> str:
    lines = []
    for i, tensor in enumerate(model.inputs):
        kind = native_type(tensor.dtype, _KOTLIN)
        default = (
            ""
            if i == 0
            else f" = {kind}Array({model.ids}.size) {{ {padding_value(tensor)}{'L' if kind == 'Long' else ''} }}"
        )
        lines.append(f"        {camel_case(tensor.name)}: {kind}Array{default},")
    if model.choices:
        lines.append("        choices: Int = 2,")
    return "\n".join(lines)


def _kotlin_shape(model: SnippetModel) -> str:
    inner = (
        f"choices.toLong(), ({model.ids}.size / choices).toLong()" if model.choices else f"{model.ids}.size.toLong()"
    )
    return f"longArrayOf(1L, {inner})"


def _kotlin_constants(model: SnippetModel) -> str:
    lines = [f"        const val MAX_LENGTH = {model.longest}"]
    lines.append(f"        val OUTPUTS = listOf({_kotlin_strings([o.name for o in model.outputs])})")
    if model.labels:
        lines.append(f"        val LABELS = listOf({_kotlin_strings(model.labels)})")
    return "\n".join(lines)


_KOTLIN_RESULT = """    /** One output, row after row. */
    class Result(val values: FloatArray, val shape: LongArray)
"""


def kotlin_onnxruntime(model: SnippetModel) -> Snippet:
    feeds = "\n".join(
        f'            "{t.name}" to OnnxTensor.createTensor(environment, '
        f"{native_type(t.dtype, _KOTLIN)}Buffer.wrap({camel_case(t.name)}), shape),"
        for t in model.inputs
    )
    entries = "".join(
        f"\n        addConfigEntry({_kotlin_strings([k])}, {_kotlin_strings([v])})" for k, v in model.config.items()
    )
    buffers = "\n".join(
        f"import java.nio.{b}Buffer" for b in sorted({native_type(t.dtype, _KOTLIN) for t in model.inputs})
    )
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


def kotlin_executorch(model: SnippetModel) -> Snippet:
    values = "\n".join(
        f"            EValue.from(Tensor.fromBlob({camel_case(t.name)}, shape)),"
        for t in model.inputs
        if native_type(t.dtype, _KOTLIN)
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


def kotlin_litert(model: SnippetModel) -> Snippet:
    writes = "\n".join(
        f"        inputs[{i}].write{native_type(t.dtype, _KOTLIN)}({camel_case(t.name)}.copyOf(length))"
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
