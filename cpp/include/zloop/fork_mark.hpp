// Detects that an object was inherited: it was made before a fork(2), and this process is the child.
//
// Owns a page of memory that the kernel clears in the child of every fork, whichever code or language calls fork(2). On
// systems without such memory it compares the process id. Does not detect vfork(2) and similar calls, whose child runs
// no code of the engine. Any thread may call inherited(); only one thread at a time may call the other functions.
#pragma once

#include "zloop/sys.hpp"

namespace zloop {

class ForkMark {
 public:
  ForkMark() = default;
  ~ForkMark() { sys::free_fork_flag(flag_); }
  ForkMark(const ForkMark&) = delete;
  ForkMark& operator=(const ForkMark&) = delete;

  // Marks the object as made by this process.
  void set() noexcept {
    if (flag_ == nullptr) flag_ = sys::make_fork_flag();
    if (flag_ == nullptr) {
      process_ = sys::process_id();
    } else {
      *flag_ = 1;
    }
  }

  // True if this process is a forked child of the one that called set().
  [[nodiscard]] bool inherited() const noexcept {
    return flag_ != nullptr ? *flag_ == 0 : process_ != sys::process_id();
  }

 private:
  volatile unsigned char* flag_ = nullptr;  // owned
  int process_ = 0;                         // the process id, if there is no flag
};

}  // namespace zloop
