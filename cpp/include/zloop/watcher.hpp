// One descriptor's tie to the reactor: who wants to know when it is ready.
//
// A Watcher owns nothing: not its descriptor, not its owner. It is a base of the object that reacts (a Stream, a
// Listener), or embedded in it (the loop's reader/writer pair). While it is attached the reactor points to it, and it
// to the reactor; whichever goes first unties the two. Loop thread only.
#pragma once

#include "zloop/poller.hpp"

namespace zloop {

class Reactor;
class Watcher;

// One static table per kind of owner. What a table points to is foreign code. It must not throw, but its thread may end
// in it: the unwinding of pthread_exit(), by which CPython up to 3.13 ends a daemon thread that wants to go on while
// the interpreter finalizes, passes all that is being called, and a noexcept function on its way ends the process. So
// nothing that calls foreign code, or gives up a reference, is noexcept, a destructor neither, nor does it catch (...).
// What it destroys on its way goes without the interpreter's lock, and must release nothing of Python's.
//
// As in every table of the engine, each hook has a function from the beginning: what an owner does not set is called,
// and does nothing.
struct WatcherOps {
  // `ready` is one bit of the watcher's interest; when both are ready, reading comes first. The owner keeps itself, and
  // the watcher, alive during the call, in which it may detach the watcher. Neither is accessed after it.
  void (*on_ready)(Watcher& watcher, unsigned ready) = [](Watcher&, unsigned) {};

  // What Reactor::user_of() returns: the object that has the descriptor to itself, so that no other may read from it or
  // write to it; or nullptr.
  void* (*user)(Watcher& watcher) = [](Watcher&) -> void* { return nullptr; };
};

class Watcher {
 public:
  Watcher() = default;
  ~Watcher() { detach(); }
  Watcher(const Watcher&) = delete;
  Watcher& operator=(const Watcher&) = delete;

  [[nodiscard]] int fd() const noexcept { return fd_; }
  [[nodiscard]] unsigned interest() const noexcept { return interest_; }  // with interest_once, if it is armed
  [[nodiscard]] bool attached() const noexcept { return reactor_ != nullptr; }
  // Only while attached.
  [[nodiscard]] Reactor& reactor() const noexcept { return *reactor_; }

  // The number does not stand for the watcher's file any more, as far as the poller knows: somebody closed it under us,
  // and it may be a stranger's by now. Who owned the descriptor neither uses nor closes that number. Stays true when
  // the watcher is detached, until it is attached anew.
  [[nodiscard]] bool lost() const noexcept { return lost_; }

  // As the reactor's functions of these names; -EBADF and nothing when not attached.
  [[nodiscard]] int set_interest(unsigned interest) noexcept;
  void drop_interest(unsigned interest) noexcept;
  void detach() noexcept;

  // The descriptor was closed, and the watcher is to be its number's next file's, of which the poller knows nothing
  // yet. Spares Reactor::arm() a call that would fail, and takes lost() back. Only without an interest.
  void renew() noexcept {
    if (interest_ == interest_none) listed_ = lost_ = false;
  }

 private:
  friend class Reactor;

  int fd_ = -1;
  unsigned char interest_ = interest_none;  // what the poller is watching for at this moment
  bool listed_ = false;                     // the poller may have an entry for it, also when it watches for nothing
  bool lost_ = false;
  Reactor* reactor_ = nullptr;       // borrowed; a reactor that closes detaches its watchers
  const WatcherOps* ops_ = nullptr;  // static, outlives everything
};

// The watcher of an object that cannot derive from Watcher.
class OwnedWatcher : public Watcher {
 public:
  [[nodiscard]] void* owner() const noexcept { return owner_; }
  void set_owner(void* owner) noexcept { owner_ = owner; }

  // Of one that is an OwnedWatcher.
  // NOLINTNEXTLINE(*-static-cast-downcast): nothing in the engine is polymorphic
  static void* owner_of(Watcher& watcher) noexcept { return static_cast<OwnedWatcher&>(watcher).owner_; }

 private:
  void* owner_ = nullptr;  // borrowed; the embedder outlives its watcher
};

}  // namespace zloop
