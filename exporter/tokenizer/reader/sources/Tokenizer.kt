// Turns text into token ids on Android, exactly as the tokenizer that the model was made with.
//
//     val tokenizer = Tokenizer(context.assets.open("tokenizer.bin").use { it.readBytes() })
//     val encoding = tokenizer.encode("some text")      // ids, attentionMask, tokenTypeIds: inputs of shape [1, tokens]

package headway

/** One value per token in each array; padding follows the tokens where a length was given. */
class Encoding(val ids: LongArray, val attentionMask: LongArray, val tokenTypeIds: LongArray)

/**
 * Opened from the bytes of `tokenizer.bin`; IllegalArgumentException where they are damaged. Any number of threads may encode
 * with the same one, until it is closed.
 */
class Tokenizer(data: ByteArray) : AutoCloseable {
    private var handle: Long = nativeOpen(data)

    /** Tokens that the model takes. */
    val maxLength: Int = nativeMaxLength(handle)

    /**
     * [text], or [text] and its [pair], cut to [maxLength] tokens, or to [length] and then padded to it as well. Half a surrogate
     * pair becomes a question mark.
     */
    fun encode(text: String, pair: String? = null, length: Int? = null): Encoding {
        check(handle != 0L) { "the tokenizer is closed" }
        val (ids, attentionMask, tokenTypeIds) = nativeEncode(
            handle,
            text.toByteArray(Charsets.UTF_8),
            pair?.toByteArray(Charsets.UTF_8),
            length ?: maxLength,
            length != null,
        )
        return Encoding(ids, attentionMask, tokenTypeIds)
    }

    override fun close() {
        nativeClose(handle)
        handle = 0L
    }

    private external fun nativeOpen(data: ByteArray): Long

    private external fun nativeClose(handle: Long)

    private external fun nativeMaxLength(handle: Long): Int

    private external fun nativeEncode(
        handle: Long,
        text: ByteArray,
        pair: ByteArray?,
        length: Int,
        padded: Boolean,
    ): Array<LongArray>

    private companion object {
        init {
            System.loadLibrary("headway_tokenizer")
        }
    }
}
