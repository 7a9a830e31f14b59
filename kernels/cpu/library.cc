// The library's entry point: ONNX Runtime calls RegisterCustomOps when it loads the file. All ops are in the domain `headway`.

#include <atomic>
#include <cstdlib>
#include <cstring>

#include "isa.h"
#include "masked_softmax.h"
#include "register.h"

namespace headway {

// Every file of ops, one line each.
#define HEADWAY_OPS(OP) \
  OP(masked_softmax) \
  OP(attention) \
  OP(padding)

#define HEADWAY_DECLARE(op) void register_##op(Library&);
HEADWAY_OPS(HEADWAY_DECLARE)

namespace {

#define HEADWAY_ADD(op) register_##op,
constexpr void (*kOps[])(Library&) = {HEADWAY_OPS(HEADWAY_ADD)};

Isa detect() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  return avx2 && avx512 ? Isa::kAvx512 : avx2 ? Isa::kAvx2 : Isa::kBaseline;
#else
  return Isa::kBaseline;
#endif
}

std::atomic<Isa>& chosen() {
  static std::atomic<Isa> value{detect()};
  return value;
}

}  // namespace

Isa isa() { return chosen().load(std::memory_order_relaxed); }

}  // namespace headway

#define HEADWAY_EXPORT extern "C" __attribute__((visibility("default")))

HEADWAY_EXPORT headway::ort::Status* RegisterCustomOps(headway::ort::SessionOptions* options, const headway::ort::ApiBase* base) {
  using namespace headway;
  const ort::Api* api = base->get_api(ort::kVersion);
  if (api == nullptr) return nullptr;  // a runtime older than 1.18, which will say that it knows no such op
  // Domains are never released: sessions point into them, and there is one a process.
  static ort::Domain* domain = nullptr;
  if (domain == nullptr) {
    if (ort::Status* status = ort::create_domain(api, "headway", &domain)) return status;
    Library library(api, domain);
    for (auto add : kOps) add(library);
  }
  return ort::add_domain(api, options, domain);
}

// Names the instruction set in use. Given "baseline", "avx2" or "avx512" the kernels made from then on use that one, for tests;
// null where this processor lacks it.
HEADWAY_EXPORT const char* headway_isa(const char* wanted) {
  using namespace headway;
  static const char* const kNames[] = {"baseline", "avx2", "avx512"};
  if (wanted != nullptr) {
    int found = 0;
    while (found < 3 && std::strcmp(kNames[found], wanted) != 0) ++found;
    if (found > static_cast<int>(detect())) return nullptr;
    chosen() = static_cast<Isa>(found);
  }
  return kNames[static_cast<int>(isa())];
}

// y = 2^x, for tests of its error.
HEADWAY_EXPORT void headway_exp2(const float* x, float* y, int64_t count) { headway::best_softmax_table().exp2(x, y, count); }
