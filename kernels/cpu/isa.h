// Finds the vector instructions of the processor and the kernels compiled for them.
//
// A file `name.simd.cc` is compiled once per instruction set, each time in the namespace HEADWAY_ISA, and defines one constant
// table of function pointers there. `name.h` declares the table's type and says HEADWAY_TABLES(Type, table); `best(...)` picks
// at run time. A file `name.dot.simd.cc` is compiled once more for processors that also have int8 dot-product instructions
// (AVX-VNNI, AVX-512 VNNI, Arm's dotprod); its header says HEADWAY_DOT_TABLES(Type, table).
//
// A file `name.bf16.simd.cc` is compiled once more for each way in which processors multiply bfloat16, and its header says
// HEADWAY_BFLOAT16_TABLES(Type, table).
//
// Inside `.simd.cc` files no function template of the standard library may be called: the linker could choose
// the copy that was compiled for instructions that this processor lacks.
#pragma once

#include <cstdint>

namespace headway {

struct Half {  // the bits of an IEEE float16
  uint16_t bits;
};

struct Bfloat16 {  // the bits of a bfloat16: the first half of a float32
  uint16_t bits;
};

enum class Isa { kBaseline, kAvx2, kAvx512 };

// The best set of the processor, or the one set for tests.
Isa isa();

// How the processor multiplies bfloat16: not at all, by dot products of pairs (AVX-512 BF16, Arm's bf16), or by tiles (AMX).
enum class Bfloat16Set { kNone, kDot, kTiles };

// The best of them that goes with `isa()`, or the one set for tests.
Bfloat16Set bfloat16_set();

// Whether the processor has int8 dot products for that instruction set, and they were not switched off for tests.
bool dot_product();

#if defined(__x86_64__)
#define HEADWAY_TABLES(Type, table) \
  namespace baseline { extern const Type table; } \
  namespace avx2 { extern const Type table; } \
  namespace avx512 { extern const Type table; } \
  inline const Type& best_##table() { \
    return isa() == Isa::kAvx512 ? avx512::table : isa() == Isa::kAvx2 ? avx2::table : baseline::table; \
  }
#else
#define HEADWAY_TABLES(Type, table) \
  namespace baseline { extern const Type table; } \
  inline const Type& best_##table() { return baseline::table; }
#endif

#if defined(__x86_64__)
#define HEADWAY_DOT_TABLES(Type, table) \
  HEADWAY_TABLES(Type, table) \
  namespace avx2_dot { extern const Type table; } \
  namespace avx512_dot { extern const Type table; } \
  inline const Type& best_dot_##table() { \
    return !dot_product() ? best_##table() : isa() == Isa::kAvx512 ? avx512_dot::table : avx2_dot::table; \
  }
#else
#define HEADWAY_DOT_TABLES(Type, table) \
  HEADWAY_TABLES(Type, table) \
  namespace baseline_dot { extern const Type table; } \
  inline const Type& best_dot_##table() { return dot_product() ? baseline_dot::table : best_##table(); }
#endif

#if defined(__x86_64__)
#define HEADWAY_BFLOAT16_TABLES(Type, table) \
  HEADWAY_TABLES(Type, table) \
  namespace avx512_bf16 { extern const Type table; } \
  namespace avx512_amx { extern const Type table; } \
  inline const Type& best_bfloat16_##table() { \
    switch (bfloat16_set()) { \
      case Bfloat16Set::kTiles: return avx512_amx::table; \
      case Bfloat16Set::kDot: return avx512_bf16::table; \
      default: return best_##table(); \
    } \
  }
#else
#define HEADWAY_BFLOAT16_TABLES(Type, table) \
  HEADWAY_TABLES(Type, table) \
  namespace baseline_bf16 { extern const Type table; } \
  inline const Type& best_bfloat16_##table() { return bfloat16_set() == Bfloat16Set::kNone ? best_##table() : baseline_bf16::table; }
#endif

}  // namespace headway
