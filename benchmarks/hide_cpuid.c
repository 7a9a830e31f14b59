// Loaded first (LD_PRELOAD), it hides AVX-512, AVX-VNNI and AMX from libraries whose `cpuid` instructions were replaced.
//
// HEADWAY_COPIES names them, "library=copy:library=copy": a dlopen of the one gets the other, in which each `cpuid` (0f a2) reads
// 06 a2, an invalid instruction. Its signal is answered here with the real `cpuid` less the hidden bits; all else runs as ever.
// Bits: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, CPUID, leaf 07H.
#define _GNU_SOURCE
#include <cpuid.h>
#include <dlfcn.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#define BIT(n) (1u << (n))

static void answer(int number, siginfo_t* info, void* context) {
  greg_t* r = ((ucontext_t*)context)->uc_mcontext.gregs;
  const unsigned char* at = (const unsigned char*)r[REG_RIP];
  (void)info;
  if (at[0] != 0x06 || at[1] != 0xa2) {  // someone else's trap
    signal(number, SIG_DFL);
    return;
  }
  const unsigned leaf = (unsigned)r[REG_RAX], part = (unsigned)r[REG_RCX];
  unsigned a, b, c, d;
  __cpuid_count(leaf, part, a, b, c, d);
  if (leaf == 7 && part == 0) {
    b &= ~(BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31));  // F DQ IFMA PF ER CD BW VL
    c &= ~(BIT(1) | BIT(6) | BIT(11) | BIT(12) | BIT(14));                                  // VBMI VBMI2 VNNI BITALG VPOPCNTDQ
    d &= ~(BIT(2) | BIT(3) | BIT(8) | BIT(22) | BIT(23) | BIT(24) | BIT(25));  // 4VNNIW 4FMAPS VP2INTERSECT FP16 and AMX
  } else if (leaf == 7 && part == 1) {
    a &= ~(BIT(4) | BIT(5) | BIT(21) | BIT(23));  // AVX-VNNI AVX512-BF16 AMX-FP16 AVX-IFMA
    d &= ~(BIT(4) | BIT(5) | BIT(10) | BIT(19));  // AVX-VNNI-INT8 AVX-NE-CONVERT AVX-VNNI-INT16 AVX10
  }
  r[REG_RAX] = a, r[REG_RBX] = b, r[REG_RCX] = c, r[REG_RDX] = d;
  r[REG_RIP] += 2;
}

__attribute__((constructor)) static void begin(void) {
  struct sigaction action = {.sa_sigaction = answer, .sa_flags = SA_SIGINFO};
  sigaction(SIGILL, &action, NULL);
}

// The copy of `path`, or `path`; `room` is PATH_MAX bytes.
static const char* copy_of(const char* path, char* room) {
  const char* pairs = getenv("HEADWAY_COPIES");
  char full[PATH_MAX];
  if (path == NULL || pairs == NULL || realpath(path, full) == NULL) return path;
  const size_t length = strlen(full);
  while (*pairs != '\0') {
    const size_t size = strcspn(pairs, ":");
    if (size > length + 1 && size - length - 1 < PATH_MAX && memcmp(pairs, full, length) == 0 && pairs[length] == '=') {
      memcpy(room, pairs + length + 1, size - length - 1);
      room[size - length - 1] = '\0';
      return room;
    }
    pairs += size + (pairs[size] == ':');
  }
  return path;
}

void* dlopen(const char* path, int flags) {
  static void* (*real)(const char*, int);
  static __thread char room[PATH_MAX];
  if (real == NULL) real = (void* (*)(const char*, int))dlsym(RTLD_NEXT, "dlopen");
  return real(copy_of(path, room), flags);  // compiled to a jump: the loader searches on behalf of its caller
}
