package com.google.ai.edge.litert

import android.content.AssetManager

enum class Accelerator { CPU }

class Environment

class TensorBuffer {
    fun writeInt(data: IntArray): Unit = TODO()
    fun writeLong(data: LongArray): Unit = TODO()
    fun readFloat(): FloatArray = TODO()
}

class CompiledModel : AutoCloseable {
    fun createInputBuffers(signature: String): List<TensorBuffer> = TODO()
    fun createOutputBuffers(signature: String): List<TensorBuffer> = TODO()
    fun run(inputs: List<TensorBuffer>, outputs: List<TensorBuffer>, signature: String): Unit = TODO()
    override fun close(): Unit = TODO()

    class Options(accelerator: Accelerator)

    companion object {
        fun create(assets: AssetManager, name: String, options: Options, environment: Environment?): CompiledModel = TODO()
    }
}
