// Connects a descriptor to the reactor, which calls the watcher when the descriptor is ready.
//
// A Watcher owns nothing: neither its descriptor nor its owner. It is a base of the object that handles the events (a
// Stream, a Listener), or a member of it (the loop's reader/writer pair). While it is attached, the reactor and the
// watcher point to each other; whichever is destroyed first detaches the watcher. Loop thread only.
#pragma once

#include <cstdint>

#include "zloop/poller.hpp"

namespace zloop {

class Reactor;
class Watcher;

// One static table per kind of owner. The functions in a table are foreign code. They must not throw, but their thread
// may end in them: CPython up to 3.13 calls pthread_exit() in a daemon thread that continues while the interpreter
// finalizes. That unwinds the whole stack, and a noexcept function on it ends the process. So a function that calls
// foreign code or releases a reference is not noexcept and has no catch (...). A destructor, which is noexcept, does
// neither. Objects that the unwinding destroys are destroyed without the interpreter's lock, and must not release
// Python objects.
//
// As in every table of the engine, each function has a default, so that the engine can call functions that an owner
// does not set.
struct WatcherOps {
  // `ready` is one bit of the watcher's interest; if both are ready, interest_read comes first. The owner keeps itself
  // and the watcher alive during the call, and may detach the watcher in it. Neither is accessed afterwards.
  void (*on_ready)(Watcher& watcher, unsigned ready) = [](Watcher&, unsigned) {};

  // The result of Reactor::user_of(): the object that uses the descriptor exclusively, so that no other may read from
  // it or write to it; or nullptr.
  void* (*user)(Watcher& watcher) = [](Watcher&) -> void* { return nullptr; };

  // True if every poller watches the owner's kind of file, as it does sockets: if it refuses with -EPERM, the number is
  // another file's by now.
  bool always_pollable = false;
};

class Watcher {
 public:
  Watcher() = default;
#ifdef ZLOOP_INVARIANTS
  ~Watcher() {
    detach();
    alive_ = 0;
  }
#else
  ~Watcher() { detach(); }
#endif
  Watcher(const Watcher&) = delete;
  Watcher& operator=(const Watcher&) = delete;

  [[nodiscard]] int fd() const noexcept { return fd_; }
  [[nodiscard]] unsigned interest() const noexcept { return interest_; }  // with interest_once, if it is armed
  [[nodiscard]] bool attached() const noexcept { return reactor_ != nullptr; }
  // Only while attached.
  [[nodiscard]] Reactor& reactor() const noexcept { return *reactor_; }

  // True if the poller has detected that the number no longer refers to the watcher's file: other code closed the
  // descriptor, and the number may belong to another file now. The owner of the descriptor must neither use nor close
  // that number. Stays true after detach(), until the watcher is attached again.
  [[nodiscard]] bool lost() const noexcept { return lost_; }

  // As the functions of the reactor with these names. When not attached, they do nothing; set_interest() returns
  // -EBADF.
  [[nodiscard]] int set_interest(unsigned interest) noexcept;
  void drop_interest(unsigned interest) noexcept;
  void detach() noexcept;

  // To be called when the descriptor was closed and the watcher is kept for the next file with that number, for which
  // the poller has no entry yet. Saves Reactor::arm() a call that would fail, and resets lost(). Has an effect only if
  // the interest is empty.
  void renew() noexcept {
    if (interest_ == interest_none) has_entry_ = lost_ = false;
  }

 private:
  friend class Reactor;

  int fd_ = -1;
  unsigned char interest_ = interest_none;  // what the poller is watching for at this moment
  bool has_entry_ = false;                  // the poller may have an entry for it, perhaps a disabled one
  bool lost_ = false;
  Reactor* reactor_ = nullptr;       // borrowed; Reactor::close() detaches the watcher
  const WatcherOps* ops_ = nullptr;  // static

#ifdef ZLOOP_INVARIANTS
  friend struct Invariants;

  static constexpr unsigned alive = 0x5AFE'5AFE;

  unsigned alive_ = alive;   // anything else: the watcher was destroyed
  std::uint64_t inode_ = 0;  // of the file that the poller's entry was made for; 0: unknown
#endif
};

// A watcher for an object that cannot derive from Watcher.
class OwnedWatcher : public Watcher {
 public:
  [[nodiscard]] void* owner() const noexcept { return owner_; }
  void set_owner(void* owner) noexcept { owner_ = owner; }

  // The owner of a watcher that is an OwnedWatcher.
  // NOLINTNEXTLINE(*-static-cast-downcast): watchers are not polymorphic
  static void* owner_of(Watcher& watcher) noexcept { return static_cast<OwnedWatcher&>(watcher).owner_; }

 private:
  void* owner_ = nullptr;  // borrowed; the object that embeds the watcher, and outlives it
};

}  // namespace zloop
