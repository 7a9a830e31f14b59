// Declares the few slots of ONNX Runtime's C API that the kernels use. Why our own: the onnxruntime package of PyPI has no C
// headers, so building where Headway is installed would need a download of them.
//
// `OrtApi` is a table of function pointers whose order never changes after a release; `GetApi(18)` returns it on every runtime
// from 1.18 on. `tests/kernels/cpu/test_ort_api.py` compares numbers and layouts with the real header where it is installed.
#pragma once

#include <cstddef>
#include <cstdint>

namespace headway::ort {

constexpr uint32_t kVersion = 18;

struct Status;
struct Value;
struct TensorInfo;
struct KernelInfo;
struct KernelContext;
struct ShapeInference;
struct SessionOptions;
struct Domain;

enum class Type : int { kFloat = 1, kUint8 = 2, kInt8 = 3, kInt32 = 6, kInt64 = 7, kBool = 9, kFloat16 = 10, kBfloat16 = 16 };
enum class ErrorCode : int { kFail = 1, kInvalidArgument = 2 };
enum class Presence : int { kRequired = 0, kOptional = 1 };

struct Api;  // the table, of which only some slots are known

struct ApiBase {
  const Api* (*get_api)(uint32_t version);
  const char* (*version)();
};

struct CustomOp {
  uint32_t version;
  void* (*create_kernel)(const CustomOp*, const Api*, const KernelInfo*);
  const char* (*name)(const CustomOp*);
  const char* (*execution_provider)(const CustomOp*);
  Type (*input_type)(const CustomOp*, size_t);
  size_t (*input_count)(const CustomOp*);
  Type (*output_type)(const CustomOp*, size_t);
  size_t (*output_count)(const CustomOp*);
  void (*compute)(void*, KernelContext*);
  void (*destroy)(void*);
  Presence (*input_presence)(const CustomOp*, size_t);
  Presence (*output_presence)(const CustomOp*, size_t);
  int (*input_memory)(const CustomOp*, size_t);
  int (*variadic_input_least)(const CustomOp*);
  int (*variadic_input_alike)(const CustomOp*);
  int (*variadic_output_least)(const CustomOp*);
  int (*variadic_output_alike)(const CustomOp*);
  Status* (*create_kernel_v2)(const CustomOp*, const Api*, const KernelInfo*, void**);
  Status* (*compute_v2)(void*, KernelContext*);
  Status* (*infer_shape)(const CustomOp*, ShapeInference*);
  int (*first_version)(const CustomOp*);
  int (*last_version)(const CustomOp*);
  size_t (*may_inplace)(int**, int**);
  void (*release_may_inplace)(int*, int*);
  size_t (*alias_map)(int**, int**);
  void (*release_alias_map)(int*, int*);
};

template <size_t kSlot, class Function>
struct Slot {
  static constexpr size_t kNumber = kSlot;
  template <class... Arguments>
  auto operator()(const Api* api, Arguments... arguments) const {
    return reinterpret_cast<Function* const*>(api)[kSlot](arguments...);
  }
};

constexpr Slot<0, Status*(ErrorCode, const char*)> create_status;
constexpr Slot<26, Status*(const char*, Domain**)> create_domain;
constexpr Slot<27, Status*(Domain*, const CustomOp*)> domain_add;
constexpr Slot<28, Status*(SessionOptions*, Domain*)> add_domain;
constexpr Slot<51, Status*(Value*, void**)> tensor_data;
constexpr Slot<60, Status*(const TensorInfo*, Type*)> element_type;
constexpr Slot<61, Status*(const TensorInfo*, size_t*)> rank;
constexpr Slot<62, Status*(const TensorInfo*, int64_t*, size_t)> dimensions;
constexpr Slot<65, Status*(const Value*, TensorInfo**)> tensor_info;
constexpr Slot<85, Status*(const KernelInfo*, const char*, float*)> attribute_float;
constexpr Slot<86, Status*(const KernelInfo*, const char*, int64_t*)> attribute_int;
constexpr Slot<87, Status*(const KernelInfo*, const char*, char*, size_t*)> attribute_string;
constexpr Slot<88, Status*(const KernelContext*, size_t*)> input_count;
constexpr Slot<89, Status*(const KernelContext*, size_t*)> output_count;
constexpr Slot<90, Status*(const KernelContext*, size_t, const Value**)> input;
constexpr Slot<91, Status*(KernelContext*, size_t, const int64_t*, size_t, Value**)> output;
constexpr Slot<93, void(Status*)> release_status;
constexpr Slot<99, void(TensorInfo*)> release_tensor_info;
constexpr Slot<101, void(Domain*)> release_domain;
constexpr Slot<249, Status*(const KernelInfo*, size_t, int*, const Value**)> constant_input;
constexpr Slot<274, Status*(const KernelContext*, void (*)(void*, size_t), size_t, size_t, void*)> parallel_for;

}  // namespace headway::ort
