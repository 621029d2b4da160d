#include "zloop/reactor.hpp"

#include <cassert>
#include <cerrno>
#include <new>

#include "zloop/sys.hpp"

namespace zloop {

namespace {

// No descriptor has this number, so no watcher is ever found for it.
constexpr std::uint64_t wakeup_token = 0xFFFF'FFFF;

constexpr unsigned generation_shift = 32;

constexpr int fd_of(std::uint64_t token) noexcept { return static_cast<int>(token & 0xFFFF'FFFF); }
constexpr std::uint32_t generation_of(std::uint64_t token) noexcept {
  return static_cast<std::uint32_t>(token >> generation_shift);
}

}  // namespace

int Watcher::set_interest(unsigned interest) noexcept {
  return attached() ? reactor_->set_interest(*this, interest) : -EBADF;
}

void Watcher::detach() noexcept {
  if (attached()) reactor_->detach(*this);
}

// Not in the class: there it would let `Reactor()` write zeros over the events first.
Reactor::Reactor() = default;  // NOLINT(*-member-init)

Reactor::~Reactor() { close(); }

int Reactor::open() noexcept {
  assert(!is_open());
  poller_ = make_poller();
  if (poller_ == nullptr) return -ENOMEM;
  const int status = open_kernel_objects();
  if (status < 0) close();
  return status;
}

int Reactor::open_kernel_objects() noexcept {
  fork_generation_ = sys::fork_generation();
  int status = poller_->open();
  if (status == 0) status = wakeup_.open();
  if (status == 0) status = poller_->add_edge_triggered(wakeup_.fd(), wakeup_token);
  return status;
}

// After a fork the poller and the wake-up are still the parent's as well, and whatever the child told them, the parent
// would feel. The child's first use makes new ones, with the same watchers.
int Reactor::own_kernel_objects() noexcept {
  if (fork_generation_ == sys::fork_generation()) return 0;
  poller_->close();
  wakeup_.close();
  events_count_ = 0;
  const int status = open_kernel_objects();
  for (std::size_t fd = 0; fd < slots_.size(); ++fd) {
    Watcher* watcher = slots_[fd].watcher;
    if (watcher == nullptr) continue;
    watcher->listed_ = false;
    if (watcher->interest_ == interest_none) continue;
    // A descriptor that the child has closed is watched no more.
    if (list(*watcher, watcher->interest_, token_of(static_cast<int>(fd))) < 0) note_interest(*watcher, interest_none);
  }
  return status;
}

void Reactor::close() noexcept {
  for (const Slot& slot : slots_) {
    if (slot.watcher != nullptr) detach(*slot.watcher);
  }
  events_count_ = 0;
  wakeup_.close();
  poller_.reset();
}

std::uint64_t Reactor::token_of(int fd) const noexcept {
  return std::uint64_t{slots_[static_cast<std::size_t>(fd)].generation} << generation_shift |
         static_cast<std::uint32_t>(fd);
}

int Reactor::attach(Watcher& watcher, int fd, const WatcherOps& ops, void* owner) noexcept {
  assert(!watcher.attached());
  if (fd < 0) return -EBADF;
  const auto index = static_cast<std::size_t>(fd);
  if (index >= slots_.size()) {
    // A number out of the air is no reason to fill memory with slots up to it.
    if (const int status = sys::check_open(fd); status < 0) return status;
    try {
      slots_.resize(index + 1);
    } catch (const std::bad_alloc&) {
      return -ENOMEM;
    }
  }
  if (slots_[index].watcher != nullptr) return -EEXIST;
  slots_[index].watcher = &watcher;
  watcher.fd_ = fd;
  watcher.interest_ = interest_none;
  watcher.reactor_ = this;
  watcher.ops_ = &ops;
  watcher.owner_ = owner;
  return 0;
}

// A descriptor nobody is interested in leaves the poller altogether: epoll reports errors and hang-ups even for an
// empty interest, and the loop would spin on them.
int Reactor::set_interest(Watcher& watcher, unsigned interest) noexcept {
  if (!watcher.attached()) return -EBADF;
  if (interest == watcher.interest_) return 0;
  int status = own_kernel_objects();
  if (status < 0) return status;
  if (interest == interest_none) {
    unlist(watcher);
  } else {
    status = list(watcher, interest, token_of(watcher.fd_));
  }
  if (status == 0) note_interest(watcher, interest);
  return status;
}

int Reactor::arm(Watcher& watcher, unsigned interest) noexcept {
  assert(interest != interest_none);
  const unsigned once = interest | interest_once;
  if (!watcher.attached()) return -EBADF;
  if (once == watcher.interest_) return 0;
  int status = own_kernel_objects();
  if (status < 0) return status;
  std::uint32_t& generation = slots_[static_cast<std::size_t>(watcher.fd_)].generation;
  ++generation;
  status = list(watcher, once, token_of(watcher.fd_));
  if (status == 0) {
    note_interest(watcher, once);
  } else {
    --generation;  // what the kernel has goes by that
  }
  return status;
}

void Reactor::disarm(Watcher& watcher) noexcept {
  if (!watcher.attached() || watcher.interest_ == interest_none) return;
  // An event fetched already is not one of the next interest's.
  ++slots_[static_cast<std::size_t>(watcher.fd_)].generation;
  // Its owner may have closed it under us, and the kernel forgotten it by itself.
  watcher.listed_ = own_kernel_objects() == 0 && watcher.listed_ &&
                    poller_->modify(watcher.fd_, interest_once, token_of(watcher.fd_)) == 0;
  note_interest(watcher, interest_none);
}

// Makes the poller's entry what it has to be.
int Reactor::list(Watcher& watcher, unsigned interest, std::uint64_t token) noexcept {
  // -ENOENT: closed and opened again under us, and the kernel does not know the new one.
  int status = watcher.listed_ ? poller_->modify(watcher.fd_, interest, token) : -ENOENT;
  if (status == -ENOENT) status = poller_->add(watcher.fd_, interest, token);
  if (status == 0) watcher.listed_ = true;
  return status;
}

void Reactor::unlist(Watcher& watcher) noexcept {
  poller_->remove(watcher.fd_);  // may fail: its owner closed it under us, and the kernel forgot it by itself
  watcher.listed_ = false;
  // An event fetched already is not one of the next interest's.
  ++slots_[static_cast<std::size_t>(watcher.fd_)].generation;
}

void Reactor::note_interest(Watcher& watcher, unsigned interest) noexcept {
  if (watcher.interest_ != interest_none) --watched_;
  if (interest != interest_none) ++watched_;
  watcher.interest_ = static_cast<unsigned char>(interest);
  pacer_.restart();
}

void Reactor::detach(Watcher& watcher) noexcept {
  if (!watcher.attached()) return;
  set_interest(watcher, interest_none);
  note_interest(watcher, interest_none);  // also when a forked child could not make a poller of its own
  if (watcher.listed_ && own_kernel_objects() == 0) unlist(watcher);  // as arm() and disarm() leave it
  Slot& slot = slots_[static_cast<std::size_t>(watcher.fd_)];
  assert(slot.watcher == &watcher);
  slot.watcher = nullptr;
  ++slot.generation;
  watcher.fd_ = -1;
  watcher.listed_ = false;
  watcher.reactor_ = nullptr;
  watcher.ops_ = nullptr;
  watcher.owner_ = nullptr;
}

void* Reactor::user_of(int fd) const noexcept {
  const auto index = static_cast<std::size_t>(fd);
  if (fd < 0 || index >= slots_.size()) return nullptr;
  const Watcher* watcher = slots_[index].watcher;
  if (watcher == nullptr || watcher->ops_->user == nullptr) return nullptr;
  return watcher->ops_->user(watcher->owner_);
}

Watcher* Reactor::watcher_of(std::uint64_t token) const noexcept {
  if (token == wakeup_token) return nullptr;
  const Slot& slot = slots_[static_cast<std::size_t>(fd_of(token))];
  return slot.generation == generation_of(token) ? slot.watcher : nullptr;
}

int Reactor::wait(std::int64_t timeout_ns) noexcept {
  assert(is_open());
  if (const int status = own_kernel_objects(); status < 0) return status;
  ++waits_;
  interrupt_dispatch();  // there was none, if an exception ended the turn
  const bool only_looks = timeout_ns == 0;
  if (timeout_ns != 0 && !wakeup_.try_sleep()) timeout_ns = 0;
  const int count = poller_->wait(events_.data(), events_capacity, timeout_ns);
  wakeup_.awake();
  events_count_ = count > 0 ? count : 0;
  next_event_ = 0;
  only_looks ? pacer_.looked(count) : pacer_.waited(count);
  return count;
}

void Reactor::dispatch() {
  while (next_event_ < events_count_) {
    const PollEvent event = events_[static_cast<std::size_t>(next_event_++)];
    for (const unsigned bit : {interest_read, interest_write}) {
      if ((event.ready & bit) == 0 || events_count_ == 0) continue;
      // Looked up for each bit: what was called last may have changed anything.
      Watcher* watcher = watcher_of(event.token);
      if (watcher != nullptr && (watcher->interest_ & bit) != 0) tell(*watcher, bit);
    }
    rearm(event.token);
  }
  events_count_ = 0;
}

void Reactor::tell(Watcher& watcher, unsigned bit) {
  if ((watcher.interest_ & interest_once) != 0) {
    const unsigned rest = watcher.interest_ & ~bit;
    note_interest(watcher, rest == interest_once ? interest_none : rest);
  }
  watcher.ops_->on_ready(watcher.owner_, bit);
}

// An event silences all that its descriptor was armed for. What it did not tell has to be asked for again.
void Reactor::rearm(std::uint64_t token) noexcept {
  Watcher* watcher = watcher_of(token);
  if (watcher == nullptr || (watcher->interest_ & interest_once) == 0) return;
  if (list(*watcher, watcher->interest_, token) < 0) note_interest(*watcher, interest_none);
}

void Reactor::interrupt_dispatch() noexcept {
  while (next_event_ < events_count_) rearm(events_[static_cast<std::size_t>(next_event_++)].token);
  events_count_ = 0;
}

}  // namespace zloop
