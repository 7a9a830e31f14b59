// The native methods of headway.Tokenizer (Tokenizer.kt; any class of that name and these methods will do).

#include <jni.h>

#include <cstdint>
#include <vector>

#include "headway_tokenizer.h"

namespace {

constexpr size_t kMessage = 512;

std::vector<char> copy(JNIEnv* env, jbyteArray array) {
  std::vector<char> bytes(static_cast<size_t>(env->GetArrayLength(array)));
  env->GetByteArrayRegion(array, 0, static_cast<jsize>(bytes.size()), reinterpret_cast<jbyte*>(bytes.data()));
  return bytes;
}

void refuse(JNIEnv* env, const char* message) {
  env->ThrowNew(env->FindClass("java/lang/IllegalArgumentException"), message);
}

headway_tokenizer* tokenizer(jlong handle) { return reinterpret_cast<headway_tokenizer*>(static_cast<intptr_t>(handle)); }

}  // namespace

extern "C" {

JNIEXPORT jlong JNICALL Java_headway_Tokenizer_nativeOpen(JNIEnv* env, jobject, jbyteArray data) {
  char message[kMessage];
  const std::vector<char> bytes = copy(env, data);
  headway_tokenizer* const opened = headway_tokenizer_open(bytes.data(), bytes.size(), message, kMessage);
  if (opened == nullptr) refuse(env, message);
  return static_cast<jlong>(reinterpret_cast<intptr_t>(opened));
}

JNIEXPORT void JNICALL Java_headway_Tokenizer_nativeClose(JNIEnv*, jobject, jlong handle) {
  headway_tokenizer_close(tokenizer(handle));
}

JNIEXPORT jint JNICALL Java_headway_Tokenizer_nativeMaxLength(JNIEnv*, jobject, jlong handle) {
  return static_cast<jint>(headway_tokenizer_max_length(tokenizer(handle)));
}

// {ids, attention mask, token types}: `length` values each where `padded`, else one for each token.
JNIEXPORT jobjectArray JNICALL Java_headway_Tokenizer_nativeEncode(JNIEnv* env, jobject, jlong handle, jbyteArray text,
                                                                   jbyteArray pair, jint length, jboolean padded) {
  char message[kMessage];
  const auto size = static_cast<size_t>(length > 0 ? length : 0);
  const std::vector<char> first = copy(env, text);
  std::vector<char> second;
  if (pair != nullptr) {
    second = copy(env, pair);
    second.push_back('\0');  // an empty pair is a pair
  }
  std::vector<int64_t> arrays[3];
  for (std::vector<int64_t>& one : arrays) one.resize(size);
  const int64_t count = headway_tokenizer_encode(
      tokenizer(handle), first.data(), first.size(), pair == nullptr ? nullptr : second.data(),
      second.empty() ? 0 : second.size() - 1, size, arrays[0].data(), arrays[1].data(), arrays[2].data(), message, kMessage);
  if (count < 0) {
    refuse(env, message);
    return nullptr;
  }
  const jsize kept = padded ? length : static_cast<jsize>(count);
  jobjectArray made = env->NewObjectArray(3, env->FindClass("[J"), nullptr);
  for (jsize i = 0; made != nullptr && i < 3; ++i) {
    jlongArray values = env->NewLongArray(kept);
    if (values == nullptr) return nullptr;  // out of memory, and thrown
    env->SetLongArrayRegion(values, 0, kept, reinterpret_cast<const jlong*>(arrays[i].data()));
    env->SetObjectArrayElement(made, i, values);
  }
  return made;
}

}  // extern "C"
