// To add an op: `name.cc` defines it and `register_name`, `name.simd.cc` (if it has vector code) its kernels, `name.h` the
// table of those; HEADWAY_OPS in library.cc gets one line. The build finds the files itself.
#pragma once

#include "op.h"

namespace headway {

class Library {
 public:
  Library(const ort::Api* api, ort::Domain* domain) : api_(api), domain_(domain) {}

  template <class Op>
  void add() {
    static const Adapter<Op> adapter;  // the runtime keeps the pointer as long as any session exists
    check(api_, ort::domain_add(api_, domain_, &adapter));
  }

 private:
  const ort::Api* api_;
  ort::Domain* domain_;
};

}  // namespace headway
