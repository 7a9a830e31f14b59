// Turns text into token ids on iOS, exactly as the tokenizer that the model was made with. Add this file and headway_tokenizer.cc to the
// target, and the folder of module.modulemap to its import paths.
//
//     let url = Bundle.main.url(forResource: "tokenizer", withExtension: "bin")!
//     let tokenizer = try Tokenizer(data: Data(contentsOf: url))
//     let encoding = try tokenizer.encode("some text")      // ids, attentionMask, tokenTypeIds: inputs of shape [1, tokens]

import Foundation
import HeadwayTokenizerC

public struct TokenizerError: Error, CustomStringConvertible {
    public let description: String
}

/// One value per token in each array; padding follows the tokens where a length was given.
public struct Encoding {
    public let ids: [Int64]
    public let attentionMask: [Int64]
    public let tokenTypeIds: [Int64]
}

/// Any number of threads may encode with the same one.
public final class Tokenizer {
    private static let messageSize = 512
    private let handle: OpaquePointer

    /// Opened from the content of `tokenizer.bin`; TokenizerError where that is damaged.
    public init(data: Data) throws {
        var message = [CChar](repeating: 0, count: Tokenizer.messageSize)
        let opened = data.withUnsafeBytes { bytes in
            headway_tokenizer_open(bytes.baseAddress, bytes.count, &message, Tokenizer.messageSize)
        }
        guard let opened else { throw TokenizerError(description: String(cString: message)) }
        handle = opened
    }

    deinit {
        headway_tokenizer_close(handle)
    }

    /// Tokens that the model takes.
    public var maxLength: Int { headway_tokenizer_max_length(handle) }

    /// `text`, or `text` and its `pair`, cut to `maxLength` tokens, or to `length` and then padded to it as well.
    public func encode(_ text: String, pair: String? = nil, length: Int? = nil) throws -> Encoding {
        let size = length ?? maxLength
        var ids = [Int64](repeating: 0, count: size)
        var mask = ids
        var types = ids
        var message = [CChar](repeating: 0, count: Tokenizer.messageSize)
        let first = text.utf8CString
        let second = pair?.utf8CString
        let count = first.withUnsafeBufferPointer { a -> Int64 in
            guard let second else {
                return headway_tokenizer_encode(
                    handle, a.baseAddress, a.count - 1, nil, 0, size, &ids, &mask, &types, &message, Tokenizer.messageSize)
            }
            return second.withUnsafeBufferPointer { b in
                headway_tokenizer_encode(
                    handle, a.baseAddress, a.count - 1, b.baseAddress, b.count - 1, size, &ids, &mask, &types, &message,
                    Tokenizer.messageSize)
            }
        }
        guard count >= 0 else { throw TokenizerError(description: String(cString: message)) }
        let kept = length == nil ? Int(count) : size
        return Encoding(
            ids: Array(ids.prefix(kept)), attentionMask: Array(mask.prefix(kept)), tokenTypeIds: Array(types.prefix(kept)))
    }
}
