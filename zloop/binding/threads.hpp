// The inbox through which other threads reach the loop, with the lock that each call of it needs.
#pragma once

#include <Python.h>

#include <cstddef>
#include <mutex>

#include "zloop/inbox.hpp"

namespace zloop::binding {

#ifdef Py_GIL_DISABLED

// Without the GIL the inbox has a lock of its own. for_each() does not take it: it is for the garbage collector, which
// has stopped all other threads.
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

// The lock is the GIL. The loop takes it again after each Reactor::wait(), before it checks the inbox.
using LoopInbox = Inbox;

#endif

}  // namespace zloop::binding
