// Tells an object that it was inherited: that it was made before a fork(2), and this is the child.
//
// Owns a page of memory that the kernel clears in the child of every fork, whoever makes it, in whatever language.
// Where there is none to be had the process's number must do. Not for vfork(2) and its like, whose child runs nothing
// of ours. Any thread may ask; the rest is for one at a time.
#pragma once

#include "zloop/sys.hpp"

namespace zloop {

class ForkMark {
 public:
  ForkMark() = default;
  ~ForkMark() { sys::free_fork_flag(flag_); }
  ForkMark(const ForkMark&) = delete;
  ForkMark& operator=(const ForkMark&) = delete;

  // What is marked is this process's from here on.
  void set() noexcept {
    if (flag_ == nullptr) flag_ = sys::make_fork_flag();
    if (flag_ == nullptr) {
      process_ = sys::process_id();
    } else {
      *flag_ = 1;
    }
  }

  // Whether this process is not the one that called set(), but a child of it.
  [[nodiscard]] bool inherited() const noexcept {
    return flag_ != nullptr ? *flag_ == 0 : process_ != sys::process_id();
  }

 private:
  volatile unsigned char* flag_ = nullptr;  // owned
  int process_ = 0;                         // without a flag
};

}  // namespace zloop
