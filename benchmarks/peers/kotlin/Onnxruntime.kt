package ai.onnxruntime

import java.nio.FloatBuffer
import java.nio.IntBuffer
import java.nio.LongBuffer
import java.util.Optional

interface OnnxValue : AutoCloseable {
    override fun close()
}

class TensorInfo {
    val shape: LongArray get() = TODO()
}

class OnnxTensor : OnnxValue {
    val floatBuffer: FloatBuffer get() = TODO()
    val info: TensorInfo get() = TODO()
    override fun close(): Unit = TODO()

    companion object {
        fun createTensor(environment: OrtEnvironment, data: LongBuffer, shape: LongArray): OnnxTensor = TODO()
        fun createTensor(environment: OrtEnvironment, data: IntBuffer, shape: LongArray): OnnxTensor = TODO()
    }
}

class OrtEnvironment {
    fun createSession(model: ByteArray, options: OrtSession.SessionOptions): OrtSession = TODO()

    companion object {
        fun getEnvironment(): OrtEnvironment = TODO()
    }
}

class OrtSession : AutoCloseable {
    fun run(inputs: Map<String, OnnxTensor>): Result = TODO()
    override fun close(): Unit = TODO()

    class Result : AutoCloseable {
        fun get(name: String): Optional<OnnxValue> = TODO()
        override fun close(): Unit = TODO()
    }

    class SessionOptions : AutoCloseable {
        fun setIntraOpNumThreads(count: Int): Unit = TODO()
        fun addConfigEntry(key: String, value: String): Unit = TODO()
        override fun close(): Unit = TODO()
    }
}
