package org.pytorch.executorch

class Tensor {
    val dataAsFloatArray: FloatArray get() = TODO()
    fun shape(): LongArray = TODO()

    companion object {
        fun fromBlob(data: LongArray, shape: LongArray): Tensor = TODO()
        fun fromBlob(data: IntArray, shape: LongArray): Tensor = TODO()
    }
}

class EValue {
    fun toTensor(): Tensor = TODO()

    companion object {
        fun from(tensor: Tensor): EValue = TODO()
    }
}

class Module {
    fun forward(vararg inputs: EValue): Array<EValue> = TODO()
    fun destroy(): Unit = TODO()

    companion object {
        fun load(path: String): Module = TODO()
    }
}
