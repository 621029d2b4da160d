#include "zloop/reactor.hpp"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <new>
#include <utility>

#include "zloop/sys.hpp"

namespace zloop {

namespace {

// No descriptor has this number, so no watcher is ever found for it.
constexpr std::uint64_t wakeup_token = 0xFFFF'FFFF;

constexpr unsigned generation_shift = 32;

// What the poller answers about a number that does not stand for the watcher's file any more.
constexpr bool is_gone(int status) noexcept { return status == -ENOENT || status == -EBADF; }

// Whether an interest asks for nothing that the other does not.
constexpr bool is_less(unsigned interest, unsigned other) noexcept {
  const bool lasts = interest != interest_none && (interest & interest_once) == 0;
  return (interest & ~(other | interest_once)) == 0 && (!lasts || (other & interest_once) == 0);
}

// What an entry says of an interest: in nothing, it is a silent one.
constexpr unsigned stated(unsigned interest) noexcept { return interest == interest_none ? interest_once : interest; }

constexpr int fd_of(std::uint64_t token) noexcept { return static_cast<int>(token & 0xFFFF'FFFF); }
constexpr std::uint32_t generation_of(std::uint64_t token) noexcept {
  return static_cast<std::uint32_t>(token >> generation_shift);
}

}  // namespace

int Watcher::set_interest(unsigned interest) noexcept {
  return attached() ? reactor_->set_interest(*this, interest) : -EBADF;
}

void Watcher::drop_interest(unsigned interest) noexcept {
  if (attached()) reactor_->drop_interest(*this, interest);
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
  fork_mark_.set();
  const int status = open_kernel_objects();
  if (status < 0) close();
  return status;
}

int Reactor::open_kernel_objects() noexcept {
  int status = poller_->open();
  if (status == 0) status = wakeup_.open();
  if (status == 0) status = poller_->add_edge_triggered(wakeup_.fd(), wakeup_token);
  return status;
}

// After a fork the poller and the wake-up are still the parent's as well, and whatever the child told them, the parent
// would feel. The child's first use makes new ones, with the same watchers; if that fails, the next use tries again.
int Reactor::own_kernel_objects() noexcept {
  if (!fork_mark_.inherited()) return 0;
  poller_->close_inherited();
  wakeup_.close();
  events_count_ = 0;
  int status = open_kernel_objects();
  if (status == 0) status = list_all(*poller_);
  if (status < 0) {
    poller_->close();
    wakeup_.close();
    return status;
  }
  fork_mark_.set();
  return 0;
}

// Makes the entries of a poller that has none. Whoever cannot be watched any more is lost: the child of a fork may have
// closed its descriptor.
int Reactor::list_all(Poller& poller) noexcept {
  for (std::size_t fd = 0; fd < slots_.size(); ++fd) {
    Watcher* watcher = slots_[fd].watcher;
    if (watcher == nullptr || watcher->interest_ == interest_none) continue;
    const int number = static_cast<int>(fd);
    const int status = poller.add(number, watcher->interest_, token_of(number));
    if (status == -EBADF || status == -EPERM) {
      watcher->lost_ = true;
      note_interest(*watcher, interest_none);
    } else if (status < 0) {
      return status;
    }
  }
  for (const Slot& slot : slots_) {
    if (slot.watcher != nullptr) slot.watcher->listed_ = slot.watcher->interest_ != interest_none;
  }
  return 0;
}

// An epoll goes by files: an entry stays for as long as a duplicate of the descriptor is open anywhere, and by the
// number alone nobody can remove it when that stands for another file. If such a file is ready, the loop never sleeps
// again. A poller without such entries takes the place of this one; without memory for it, all stays as it is.
void Reactor::replace_poller() noexcept {
  // Only this one knows who is lost: the next would watch whatever the numbers stand for by now.
  for (const Slot& slot : slots_) {
    if (slot.watcher != nullptr) check_file(*slot.watcher);
  }
  std::unique_ptr<Poller> successor = make_poller();
  if (successor == nullptr || successor->open() < 0) return;
  if (successor->add_edge_triggered(wakeup_.fd(), wakeup_token) < 0 || list_all(*successor) < 0) return;
  poller_ = std::move(successor);
  suspects_orphan_ = false;
}

bool Reactor::holds_orphan_event() const noexcept {
  return std::any_of(events_.begin(), events_.begin() + events_count_, [this](const PollEvent& event) {
    return event.token != wakeup_token && watcher_of(event.token) == nullptr;
  });
}

void Reactor::close() noexcept {
  for (const Slot& slot : slots_) {
    if (slot.watcher != nullptr) detach(*slot.watcher);
  }
  if (is_open()) fork_mark_.inherited() ? poller_->close_inherited() : poller_->close();
  events_count_ = 0;
  wakeup_.close();
  poller_.reset();
}

std::uint64_t Reactor::token_of(int fd) const noexcept {
  return std::uint64_t{slots_[static_cast<std::size_t>(fd)].generation} << generation_shift |
         static_cast<std::uint32_t>(fd);
}

int Reactor::attach(Watcher& watcher, int fd, const WatcherOps& ops) noexcept {
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
  if (Watcher* other = slots_[index].watcher; other != nullptr) {
    if (!is_lost(*other)) return -EEXIST;
    detach(*other);
  }
  slots_[index].watcher = &watcher;
  watcher.fd_ = fd;
  watcher.interest_ = interest_none;
  watcher.lost_ = false;
  watcher.reactor_ = this;
  watcher.ops_ = &ops;
  return 0;
}

// A descriptor nobody is interested in leaves the poller, or is silenced: epoll reports errors and hang-ups even for an
// empty interest, and the loop would spin on them.
int Reactor::set_interest(Watcher& watcher, unsigned interest) noexcept {
  if (!watcher.attached()) return -EBADF;
  if (interest == watcher.interest_) return 0;
  if (is_less(interest, watcher.interest_)) {
    reduce(watcher, interest);
    return 0;
  }
  int status = own_kernel_objects();
  if (status == 0) status = watcher.lost_ ? -EBADF : list(watcher, interest, token_of(watcher.fd_));
  if (status == 0) note_interest(watcher, interest);
  return status;
}

int Reactor::arm(Watcher& watcher, unsigned interest) noexcept {
  assert(interest != interest_none);
  const unsigned once = interest | interest_once;
  if (!watcher.attached()) return -EBADF;
  if (once == watcher.interest_) return 0;
  if (is_less(once, watcher.interest_)) {
    reduce(watcher, once);
    return 0;
  }
  int status = own_kernel_objects();
  if (status < 0) return status;
  if (watcher.interest_ == interest_none && watcher.lost_) watcher.renew();
  if (watcher.lost_) return -EBADF;
  std::uint32_t& generation = slots_[static_cast<std::size_t>(watcher.fd_)].generation;
  ++generation;
  const std::uint64_t token = token_of(watcher.fd_);
  status = watcher.interest_ == interest_none ? enlist(watcher, once, token) : list(watcher, once, token);
  if (status == 0) {
    note_interest(watcher, once);
  } else if (!watcher.lost_) {
    --generation;  // what the kernel has goes by that
  }
  return status;
}

void Reactor::disarm(Watcher& watcher) noexcept {
  if (!watcher.attached() || watcher.interest_ == interest_none) return;
  // An event fetched already is not one of the next interest's.
  ++slots_[static_cast<std::size_t>(watcher.fd_)].generation;
  if (is_listed(watcher) && poller_->modify(watcher.fd_, interest_once, token_of(watcher.fd_)) < 0) {
    unlist(watcher);
  }
  note_interest(watcher, interest_none);
}

void Reactor::drop_interest(Watcher& watcher, unsigned interest) noexcept {
  if (!watcher.attached()) return;
  const unsigned left = watcher.interest_ & ~interest;
  if (left == watcher.interest_) return;
  (left & ~unsigned{interest_once}) == interest_none ? disarm(watcher) : reduce(watcher, left);
}

// Whether this process's poller may have an entry for it: in a forked child that has none of its own, the entry is the
// parent's, and nobody is to be told yet.
bool Reactor::is_listed(const Watcher& watcher) const noexcept { return watcher.listed_ && !fork_mark_.inherited(); }

// To less than there is.
void Reactor::reduce(Watcher& watcher, unsigned interest) noexcept {
  if (is_listed(watcher)) {
    if (interest == interest_none) {
      unlist(watcher);
    } else if (restate(watcher, interest) < 0) {
      lose(watcher);
      return;
    }
  }
  note_interest(watcher, interest);
}

// Has the poller's entry say that, which is no more than the poller was once told for it.
int Reactor::restate(Watcher& watcher, unsigned interest) noexcept {
  const std::uint64_t token = token_of(watcher.fd_);
  int status = poller_->modify(watcher.fd_, interest, token);
  // No kernel has another reason to refuse it; anew, it is what was asked for.
  if (status < 0 && !is_gone(status) && poller_->remove(watcher.fd_) == 0) {
    status = poller_->add(watcher.fd_, interest, token);
  }
  return status;
}

bool Reactor::is_lost(Watcher& watcher) noexcept {
  check_file(watcher);
  return watcher.lost_;
}

// Asks the poller, if it knows, whether the number still stands for the watcher's file. If not, the watcher is lost.
void Reactor::check_file(Watcher& watcher) noexcept {
  if (watcher.lost_ || !is_listed(watcher)) return;
  if (is_gone(poller_->modify(watcher.fd_, stated(watcher.interest_), token_of(watcher.fd_)))) lose(watcher);
}

bool Reactor::refresh(Watcher& watcher) noexcept {
  if (!watcher.attached()) return false;
  ++slots_[static_cast<std::size_t>(watcher.fd_)].generation;
  if (!watcher.lost_ && is_listed(watcher) && restate(watcher, stated(watcher.interest_)) < 0) lose(watcher);
  return !watcher.lost_;
}

// Makes the poller's entry what it has to be.
int Reactor::list(Watcher& watcher, unsigned interest, std::uint64_t token) noexcept {
  if (!watcher.listed_) return enlist(watcher, interest, token);
  const int status = poller_->modify(watcher.fd_, interest, token);
  if (!is_gone(status)) return status;
  lose(watcher);
  return -EBADF;
}

// The same for whatever the number stands for.
int Reactor::enlist(Watcher& watcher, unsigned interest, std::uint64_t token) noexcept {
  int status = watcher.listed_ ? poller_->modify(watcher.fd_, interest, token) : -ENOENT;
  if (status == -ENOENT) status = poller_->add(watcher.fd_, interest, token);
  // A file that was closed, and whose duplicate has its number now.
  if (status == -EEXIST) status = poller_->modify(watcher.fd_, interest, token);
  if (status == 0) watcher.listed_ = true;
  // The number stands for no file. Nor does it for the watcher's when there is one again.
  if (status == -EBADF) watcher.lost_ = true;
  return status;
}

void Reactor::unlist(Watcher& watcher) noexcept {
  // Its owner may have closed it under us, and the kernel forgotten it by itself.
  if (is_gone(poller_->remove(watcher.fd_))) watcher.lost_ = true;
  watcher.listed_ = false;
  // An event fetched already is not one of the next interest's.
  ++slots_[static_cast<std::size_t>(watcher.fd_)].generation;
}

void Reactor::lose(Watcher& watcher) noexcept {
  unlist(watcher);
  watcher.lost_ = true;
  note_interest(watcher, interest_none);
}

void Reactor::note_interest(Watcher& watcher, unsigned interest) noexcept {
  if (watcher.interest_ != interest_none) --watched_;
  if (interest != interest_none) ++watched_;
  watcher.interest_ = static_cast<unsigned char>(interest);
  polling_.reset();
}

void Reactor::detach(Watcher& watcher) noexcept {
  if (!watcher.attached()) return;
  if (is_listed(watcher)) unlist(watcher);
  note_interest(watcher, interest_none);
  Slot& slot = slots_[static_cast<std::size_t>(watcher.fd_)];
  assert(slot.watcher == &watcher);
  slot.watcher = nullptr;
  ++slot.generation;
  watcher.fd_ = -1;
  watcher.listed_ = false;
  watcher.reactor_ = nullptr;
  watcher.ops_ = nullptr;
}

void* Reactor::user_of(int fd) noexcept {
  const auto index = static_cast<std::size_t>(fd);
  if (fd < 0 || index >= slots_.size()) return nullptr;
  Watcher* watcher = slots_[index].watcher;
  void* user = watcher == nullptr ? nullptr : watcher->ops_->user(*watcher);
  if (user == nullptr || !is_lost(*watcher)) return user;
  detach(*watcher);
  return nullptr;
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
  const bool does_not_block = timeout_ns == 0;
  if (timeout_ns != 0 && !wakeup_.try_sleep()) timeout_ns = 0;
  const int count = poller_->wait(events_.data(), events_capacity, timeout_ns);
  wakeup_.awake();
  events_count_ = count > 0 ? count : 0;
  next_event_ = 0;
  if (suspects_orphan_ && count > 0) {
    // Nothing has happened since the poller told it: then it has an entry that is nobody's.
    suspects_orphan_ = holds_orphan_event();
    if (suspects_orphan_) replace_poller();
  }
  does_not_block ? polling_.polled(count) : polling_.blocked(count);
  return count;
}

void Reactor::dispatch() {
  while (next_event_ < events_count_) {
    const PollEvent event = events_[static_cast<std::size_t>(next_event_++)];
    for (const unsigned bit : {interest_read, interest_write}) {
      if ((event.ready & bit) == 0 || events_count_ == 0) continue;
      // Looked up for each bit: what was called last may have changed anything.
      Watcher* watcher = watcher_of(event.token);
      if (watcher == nullptr) {
        suspects_orphan_ |= event.token != wakeup_token;
        continue;
      }
      const unsigned interest = watcher->interest_;
      if ((interest & bit) == 0) continue;
      if ((interest & interest_once) != 0) {
        const unsigned rest = interest & ~bit;
        note_interest(*watcher, rest == interest_once ? interest_none : rest);
      }
      watcher->ops_->on_ready(*watcher, bit);
    }
    rearm(event.token);
  }
  events_count_ = 0;
}

// An event silences all that its descriptor was armed for. What it did not tell has to be asked for again.
void Reactor::rearm(std::uint64_t token) noexcept {
  Watcher* watcher = watcher_of(token);
  if (watcher == nullptr || (watcher->interest_ & interest_once) == 0 || !is_listed(*watcher)) return;
  if (restate(*watcher, watcher->interest_) < 0) lose(*watcher);
}

void Reactor::interrupt_dispatch() noexcept {
  while (next_event_ < events_count_) rearm(events_[static_cast<std::size_t>(next_event_++)].token);
  events_count_ = 0;
}

}  // namespace zloop
