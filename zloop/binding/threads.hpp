// How other threads reach the loop, on builds with the interpreter's lock and without.
//
// With it, whoever touches the inbox holds that lock: the inbox needs none of its own, and a burst of calls from other
// threads takes one locked instruction together, not several each.
#pragma once

#include <Python.h>

#include "zloop/inbox.hpp"
#include "zloop/reactor.hpp"

namespace zloop::binding {

#ifdef Py_GIL_DISABLED

using LoopInbox = Inbox;

inline void tell_of_push(Reactor& reactor) { reactor.notify(); }

#else

using LoopInbox = BasicInbox<HeldByCaller>;

// The loop takes the lock back after each Reactor::wait(), and looks into the inbox then (Loop.run_turn).
inline void tell_of_push(Reactor& reactor) { reactor.notify_under_lock(); }

#endif

}  // namespace zloop::binding
