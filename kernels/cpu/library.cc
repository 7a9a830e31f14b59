// The entry point of the library: ONNX Runtime calls RegisterCustomOps when it loads the file. All ops are in the domain `headway`.

#include <atomic>
#include <cstdlib>
#include <cstring>

#if defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#elif defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

#include "isa.h"
#include "masked_softmax.h"
#include "register.h"

namespace headway {

// Every file of ops, one line each.
#define HEADWAY_OPS(OP) \
  OP(masked_softmax) \
  OP(attention) \
  OP(padding) \
  OP(activation) \
  OP(layer_norm) \
  OP(quantized_linear) \
  OP(bfloat16_linear)

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

bool detect_dot_product(Isa set) {
#if defined(__x86_64__)
  unsigned a = 0, b = 0, c = 0, d = 0;  // leaf 7: AVX-512 VNNI in its first part, AVX-VNNI in its second
  if (set == Isa::kAvx512) return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (c >> 11 & 1);
  return set == Isa::kAvx2 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
#elif defined(__aarch64__) && defined(__linux__)
  return static_cast<void>(set), getauxval(AT_HWCAP) & HWCAP_ASIMDDP;
#else
  return static_cast<void>(set), false;
#endif
}

#if defined(__x86_64__)
// Asks Linux to keep tiles for this process, once: it refuses where threads have too small a stack for signals, and older
// versions do not know the question. Elsewhere nobody keeps them.
bool tiles_permitted() {
#if defined(__linux__)
  constexpr long kRequest = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  static const bool permitted = syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
  return permitted;
#else
  return false;
#endif
}
#endif

Bfloat16Set detect_bfloat16(Isa set) {
#if defined(__x86_64__)
  unsigned a = 0, b = 0, c = 0, d = 0;  // leaf 7: AMX-BF16 and AMX-TILE in its first part, AVX-512 BF16 in its second
  if (set != Isa::kAvx512 || !__get_cpuid_count(7, 1, &a, &b, &c, &d) || !(a >> 5 & 1)) return Bfloat16Set::kNone;
  const bool tiles = __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 22 & 1) && (d >> 24 & 1);
  return tiles && tiles_permitted() ? Bfloat16Set::kTiles : Bfloat16Set::kDot;
#elif defined(__aarch64__) && defined(__linux__) && defined(HWCAP2_BF16)
  return static_cast<void>(set), getauxval(AT_HWCAP2) & HWCAP2_BF16 ? Bfloat16Set::kDot : Bfloat16Set::kNone;
#else
  return static_cast<void>(set), Bfloat16Set::kNone;
#endif
}

std::atomic<Bfloat16Set>& bfloat16_allowed() {
  static std::atomic<Bfloat16Set> value{Bfloat16Set::kTiles};
  return value;
}

std::atomic<bool>& dot_product_allowed() {
  static std::atomic<bool> value{true};
  return value;
}

std::atomic<Isa>& chosen() {
  static std::atomic<Isa> value{detect()};
  return value;
}

}  // namespace

Isa isa() { return chosen().load(std::memory_order_relaxed); }
bool dot_product() { return dot_product_allowed().load(std::memory_order_relaxed) && detect_dot_product(isa()); }

Bfloat16Set bfloat16_set() {
  const Bfloat16Set allowed = bfloat16_allowed().load(std::memory_order_relaxed), best = detect_bfloat16(isa());
  return best < allowed ? best : allowed;
}

}  // namespace headway

#define HEADWAY_EXPORT extern "C" __attribute__((visibility("default")))

HEADWAY_EXPORT headway::ort::Status* RegisterCustomOps(headway::ort::SessionOptions* options, const headway::ort::ApiBase* base) {
  using namespace headway;
  const ort::Api* api = base->get_api(ort::kVersion);
  if (api == nullptr) return nullptr;  // a runtime older than 1.18, which then reports an unknown op
  // The domain is never released: sessions point into it, and there is one per process.
  static ort::Domain* domain = nullptr;
  if (domain == nullptr) {
    if (ort::Status* status = ort::create_domain(api, "headway", &domain)) return status;
    Library library(api, domain);
    for (auto add : kOps) add(library);
  }
  return ort::add_domain(api, options, domain);
}

// Returns the name of the instruction set in use. Given "baseline", "avx2" or "avx512", later kernels use that one, for tests;
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

// Returns whether int8 dot products are in use; 0 and 1 switch them off and on again where the processor has them, for tests.
HEADWAY_EXPORT int headway_dot_product(int wanted) {
  using namespace headway;
  if (wanted >= 0) dot_product_allowed() = wanted != 0;
  return dot_product();
}

// Returns how bfloat16 is multiplied: 0 widened to float32, 1 by dot products, 2 by tiles. Given one of them, later kernels use
// that one at most, for tests.
HEADWAY_EXPORT int headway_bfloat16(int wanted) {
  using namespace headway;
  if (wanted >= 0) bfloat16_allowed() = static_cast<Bfloat16Set>(wanted < 2 ? wanted : 2);
  return static_cast<int>(bfloat16_set());
}

// Computes y = 2^x, for tests of its error.
HEADWAY_EXPORT void headway_exp2(const float* x, float* y, int64_t count) { headway::best_softmax_table().exp2(x, y, count); }
