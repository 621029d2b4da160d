// How other threads reach the loop: the inbox, and the lock that each call of it needs.
#pragma once

#include <Python.h>

#include <cstddef>
#include <mutex>

#include "zloop/inbox.hpp"

namespace zloop::binding {

#ifdef Py_GIL_DISABLED

// Without the GIL the lock is its own. for_each() is for the garbage collector, which has stopped the other threads.
class LoopInbox : private Inbox {
 public:
  using Inbox::for_each;

  void push(void* item) {
    const std::scoped_lock lock(lock_);
    Inbox::push(item);
  }
  bool pending() {
    const std::scoped_lock lock(lock_);
    return Inbox::pending();
  }
  std::size_t take_into(ReadyQueue& queue) {
    const std::scoped_lock lock(lock_);
    return Inbox::take_into(queue);
  }

 private:
  std::mutex lock_;
};

#else

// The lock is the GIL, which the loop takes back after each Reactor::wait(), before it checks the inbox.
using LoopInbox = Inbox;

#endif

}  // namespace zloop::binding
