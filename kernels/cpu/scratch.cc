#include "scratch.h"

#include <mutex>
#include <utility>

namespace headway {
namespace {

struct Pool {
  std::mutex mutex;
  std::vector<std::vector<char>> free;
  size_t lent = 0;
};

Pool& pool() {  // never destroyed: threads of the runtime may outlive it
  static Pool* const made = new Pool;
  return *made;
}

}  // namespace

Scratch::Scratch(size_t bytes) {
  Pool& all = pool();
  {
    std::lock_guard<std::mutex> lock(all.mutex);
    all.free.reserve(all.free.size() + all.lent + 1);  // so that giving back allocates nothing, and cannot fail
    ++all.lent;
    if (!all.free.empty()) {
      memory_ = std::move(all.free.back());
      all.free.pop_back();
    }
  }
  if (memory_.size() >= bytes + 63) return;
  try {
    memory_ = {};  // before more is asked for
    memory_ = std::vector<char>(bytes + 63);
  } catch (...) {
    std::lock_guard<std::mutex> lock(all.mutex);
    --all.lent;
    throw;
  }
}

Scratch::~Scratch() {
  Pool& all = pool();
  std::lock_guard<std::mutex> lock(all.mutex);
  --all.lent;
  all.free.push_back(std::move(memory_));
}

}  // namespace headway
