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

// True for the errors by which the poller reports that a number no longer refers to the watcher's file: it has no
// entry, the number is free, or it is a file's that cannot be watched.
constexpr bool is_gone(int status) noexcept { return status == -ENOENT || status == -EBADF || status == -EPERM; }

// True if the interest asks for nothing that the other does not ask for.
constexpr bool is_subset(unsigned interest, unsigned other) noexcept {
  const bool is_persistent = interest != interest_none && (interest & interest_once) == 0;
  return (interest & ~(other | interest_once)) == 0 && (!is_persistent || (other & interest_once) == 0);
}

// The interest of the poller's entry: for an empty interest, it is a disabled entry.
constexpr unsigned entry_interest(unsigned interest) noexcept {
  return interest == interest_none ? interest_once : interest;
}

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

// Not defaulted in the class: there `Reactor()` would write zeros over the events first.
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
  if (status == 0) status = wakeup_.open(&fork_mark_);
  if (status == 0) status = poller_->add_edge_triggered(wakeup_.fd(), wakeup_token);
  return status;
}

// After a fork the poller and the wake-up are shared with the parent, and changes by the child would affect it. The
// first use in the child opens new ones, with the same watchers; if that fails, the next use tries again.
int Reactor::reopen_after_fork() noexcept {
  if (!fork_mark_.inherited()) return 0;
  poller_->close_inherited();
  wakeup_.close_inherited();
  events_count_ = 0;
  int status = open_kernel_objects();
  if (status == 0) status = add_all_entries(*poller_);
  if (status < 0) {
    poller_->close();
    wakeup_.close();
    return status;
  }
  fork_mark_.set();
  return 0;
}

// Adds the entries of all watchers to a new poller. A watcher whose descriptor cannot be watched is lost: the child of
// a fork may have closed it.
int Reactor::add_all_entries(Poller& poller) noexcept {
  for (std::size_t fd = 0; fd < slots_.size(); ++fd) {
    Watcher* watcher = slots_[fd].watcher;
    if (watcher == nullptr || watcher->interest_ == interest_none) continue;
    const int number = static_cast<int>(fd);
    const unsigned interest = interest_for_entry(*watcher, watcher->interest_);
    const int status = poller.add(number, interest, token_of(number));
    if (is_gone(status)) {
      watcher->lost_ = true;
      record_interest(*watcher, interest_none);
    } else if (status < 0) {
      return status;
    }
  }
  for (const Slot& slot : slots_) {
    if (slot.watcher == nullptr) continue;
    slot.watcher->has_entry_ = slot.watcher->interest_ != interest_none;
    if (slot.watcher->has_entry_) note_file(*slot.watcher);
  }
  return 0;
}

// epoll watches files, not numbers: an entry stays as long as a duplicate of the descriptor is open anywhere, and it
// cannot be removed by its number when that refers to another file. If the file of such an orphaned entry is ready, the
// loop never sleeps again. So a new poller without orphaned entries replaces this one. If a new one cannot be made,
// this one stays.
void Reactor::replace_poller() noexcept {
  // Only the old poller can detect lost watchers: the new one would watch the files that the numbers refer to now.
  for (const Slot& slot : slots_) {
    if (slot.watcher != nullptr) check_file(*slot.watcher);
  }
  std::unique_ptr<Poller> successor = make_poller();
  if (successor == nullptr || successor->open() < 0) return;
  if (successor->add_edge_triggered(wakeup_.fd(), wakeup_token) < 0 || add_all_entries(*successor) < 0) return;
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
  fork_mark_.inherited() ? wakeup_.close_inherited() : wakeup_.close();
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
    // An arbitrary number must not make the table grow up to it.
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

// A descriptor with an empty interest is removed from the poller, or disabled: epoll reports errors and hang-ups even
// for an empty interest, and the loop would spin on them.
int Reactor::set_interest(Watcher& watcher, unsigned interest) noexcept {
  if (!watcher.attached()) return -EBADF;
  if (interest == watcher.interest_) return 0;
  if (is_subset(interest, watcher.interest_)) {
    reduce_interest(watcher, interest);
    return 0;
  }
  int status = reopen_after_fork();
  if (status == 0) status = watcher.lost_ ? -EBADF : update_entry(watcher, interest, token_of(watcher.fd_));
  if (status == 0) record_interest(watcher, interest);
  return status;
}

int Reactor::arm(Watcher& watcher, unsigned interest) noexcept {
  assert(interest != interest_none);
  const unsigned once = interest | interest_once;
  if (!watcher.attached()) return -EBADF;
  if (once == watcher.interest_) return 0;
  if (is_subset(once, watcher.interest_)) {
    reduce_interest(watcher, once);
    return 0;
  }
  int status = reopen_after_fork();
  if (status < 0) return status;
  if (watcher.interest_ == interest_none && watcher.lost_) watcher.renew();
  if (watcher.lost_) return -EBADF;
  std::uint32_t& generation = slots_[static_cast<std::size_t>(watcher.fd_)].generation;
  ++generation;
  const std::uint64_t token = token_of(watcher.fd_);
  status = watcher.interest_ == interest_none ? add_or_modify_entry(watcher, once, token)
                                              : update_entry(watcher, once, token);
  if (status == 0) {
    record_interest(watcher, once);
  } else if (!watcher.lost_) {
    --generation;  // the poller's entry still has the old token
  }
  return status;
}

void Reactor::disarm(Watcher& watcher) noexcept {
  if (!watcher.attached() || watcher.interest_ == interest_none) return;
  // Events that were fetched already do not belong to the next interest.
  ++slots_[static_cast<std::size_t>(watcher.fd_)].generation;
  if (has_entry(watcher) && poller_->modify(watcher.fd_, interest_once, token_of(watcher.fd_)) < 0) {
    remove_entry(watcher);
  }
  record_interest(watcher, interest_none);
}

void Reactor::drop_interest(Watcher& watcher, unsigned interest) noexcept {
  if (!watcher.attached()) return;
  const unsigned left = watcher.interest_ & ~interest;
  if (left == watcher.interest_) return;
  (left & (interest_read | interest_write)) == interest_none ? disarm(watcher) : reduce_interest(watcher, left);
}

int Reactor::requeue(Watcher& watcher, unsigned interest) noexcept {
  if (!watcher.attached()) return -EBADF;
  if (has_entry(watcher)) remove_entry(watcher);
  record_interest(watcher, interest_none);
  if (watcher.lost_) return -EBADF;
  int status = set_interest(watcher, interest);
  if (status == -EINVAL) {  // such a duplicate's entry cannot become exclusive
    [[maybe_unused]] const int removed = poller_->remove(watcher.fd_);
    status = set_interest(watcher, interest & ~unsigned{interest_exclusive});
  }
  return status;
}

// True if the poller of this process may have an entry for the watcher. In a forked child that has no poller of its own
// yet, the entry is the parent's and must not be changed.
bool Reactor::has_entry(const Watcher& watcher) const noexcept { return watcher.has_entry_ && !fork_mark_.inherited(); }

// The interest for the poller's entry at this moment. While an event of the entry waits for dispatch(), a one-shot
// interest is disabled, as the poller left it: rearm() follows the dispatch. Armed again before, the entry would report
// what the watcher is told of anyway.
unsigned Reactor::interest_for_entry(const Watcher& watcher, unsigned interest) const noexcept {
  return (interest & interest_once) != 0 && awaits_dispatch(watcher) ? unsigned{interest_once}
                                                                     : entry_interest(interest);
}

// True if an event of the last wait() is the watcher's, and dispatch() has not finished with it.
bool Reactor::awaits_dispatch(const Watcher& watcher) const noexcept {
  const std::uint64_t token = token_of(watcher.fd_);
  return std::any_of(events_.begin() + first_unfinished(), events_.begin() + events_count_,
                     [token](const PollEvent& event) { return event.token == token; });
}

// The index of the event whose watcher is being notified, if any, or else of the next one.
int Reactor::first_unfinished() const noexcept { return std::min(std::max(next_event_ - 1, 0), events_count_); }

// Sets an interest that asks for less than the current one.
void Reactor::reduce_interest(Watcher& watcher, unsigned interest) noexcept {
  if (has_entry(watcher)) {
    if (interest == interest_none) {
      remove_entry(watcher);
    } else if (modify_entry(watcher, interest_for_entry(watcher, interest)) < 0) {
      mark_lost(watcher);
      return;
    }
  }
  record_interest(watcher, interest);
}

// Changes the poller's entry to an interest that asks for no more than the poller has accepted before.
int Reactor::modify_entry(Watcher& watcher, unsigned interest) noexcept {
  const std::uint64_t token = token_of(watcher.fd_);
  int status = poller_->modify(watcher.fd_, interest, token);
  // No kernel has another reason to refuse. If one does, a new entry has the same effect.
  if (status < 0 && !is_gone(status) && poller_->remove(watcher.fd_) == 0) {
    status = poller_->add(watcher.fd_, interest, token);
  }
  return status;
}

bool Reactor::is_lost(Watcher& watcher) noexcept {
  check_file(watcher);
  return watcher.lost_;
}

// Asks the poller, if it has an entry, whether the number still refers to the watcher's file. If not, the watcher is
// lost.
void Reactor::check_file(Watcher& watcher) noexcept {
  if (watcher.lost_ || !has_entry(watcher)) return;
  const unsigned interest = interest_for_entry(watcher, watcher.interest_);
  if (is_gone(poller_->modify(watcher.fd_, interest, token_of(watcher.fd_)))) mark_lost(watcher);
}

bool Reactor::refresh(Watcher& watcher) noexcept {
  if (!watcher.attached()) return false;
  ++slots_[static_cast<std::size_t>(watcher.fd_)].generation;
  if (!watcher.lost_ && has_entry(watcher) && modify_entry(watcher, entry_interest(watcher.interest_)) < 0) {
    mark_lost(watcher);
  }
  return !watcher.lost_;
}

// Adds the poller's entry, or changes it. The watcher is lost if the number refers to another file.
int Reactor::update_entry(Watcher& watcher, unsigned interest, std::uint64_t token) noexcept {
  if (!watcher.has_entry_) return add_or_modify_entry(watcher, interest, token);
  const int status = poller_->modify(watcher.fd_, interest, token);
  if (!is_gone(status)) return status;
  mark_lost(watcher);
  return -EBADF;
}

// The same, for the file that the number refers to now, whichever it is.
int Reactor::add_or_modify_entry(Watcher& watcher, unsigned interest, std::uint64_t token) noexcept {
  int status = watcher.has_entry_ ? poller_->modify(watcher.fd_, interest, token) : -ENOENT;
  if (status == -ENOENT) status = poller_->add(watcher.fd_, interest, token);
  // The watcher's file was closed under this number, and a duplicate of it has the number now.
  if (status == -EEXIST) status = poller_->modify(watcher.fd_, interest, token);
  if (status == 0) {
    watcher.has_entry_ = true;
    note_file(watcher);
  }
  // The number refers to no file, or to one that cannot be watched and so is not the watcher's. A later file with that
  // number is not the watcher's either.
  if (status == -EBADF || (status == -EPERM && watcher.ops_->always_pollable)) watcher.lost_ = true;
  return status;
}

// For the invariants: which file the entry is for.
void Reactor::note_file([[maybe_unused]] Watcher& watcher) noexcept {
#ifdef ZLOOP_INVARIANTS
  watcher.inode_ = inode_of(watcher.fd_);
#endif
}

void Reactor::remove_entry(Watcher& watcher) noexcept {
  // Its owner may have closed the descriptor; then the kernel may have removed the entry already.
  if (is_gone(poller_->remove(watcher.fd_))) watcher.lost_ = true;
  watcher.has_entry_ = false;
  // Events that were fetched already do not belong to the next interest.
  ++slots_[static_cast<std::size_t>(watcher.fd_)].generation;
}

void Reactor::mark_lost(Watcher& watcher) noexcept {
  remove_entry(watcher);
  watcher.lost_ = true;
  record_interest(watcher, interest_none);
}

void Reactor::record_interest(Watcher& watcher, unsigned interest) noexcept {
  if (watcher.interest_ != interest_none) --watched_;
  if (interest != interest_none) ++watched_;
  watcher.interest_ = static_cast<unsigned char>(interest);
  polling_.reset();
}

void Reactor::detach(Watcher& watcher) noexcept {
  if (!watcher.attached()) return;
  if (has_entry(watcher)) remove_entry(watcher);
  record_interest(watcher, interest_none);
  Slot& slot = slots_[static_cast<std::size_t>(watcher.fd_)];
  assert(slot.watcher == &watcher);
  slot.watcher = nullptr;
  ++slot.generation;
  watcher.fd_ = -1;
  watcher.has_entry_ = false;
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
  if (const int status = reopen_after_fork(); status < 0) return status;
  ++waits_;
  // An exception ended the turn before its dispatch(); or this turn is inside of a notification.
  if (events_count_ > 0) interrupt_dispatch();
  check_invariants(*this);
  const bool does_not_block = timeout_ns == 0;
  if (timeout_ns != 0 && !wakeup_.try_sleep()) timeout_ns = 0;
  const int count = poller_->wait(events_.data(), events_capacity, timeout_ns);
  wakeup_.awake();
  events_count_ = count > 0 ? count : 0;
  next_event_ = 0;
  if (suspects_orphan_ && count > 0) {
    // Nothing has changed since the poller reported the event, so its entry is orphaned.
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
      // Looked up for each bit, because the last call may have changed anything.
      Watcher* watcher = watcher_of(event.token);
      if (watcher == nullptr) {
        suspects_orphan_ |= event.token != wakeup_token;
        continue;
      }
      const unsigned interest = watcher->interest_;
      if ((interest & bit) == 0) continue;
      if ((interest & interest_once) != 0) {
        const unsigned rest = interest & ~bit;
        record_interest(*watcher, rest == interest_once ? interest_none : rest);
      }
      watcher->ops_->on_ready(*watcher, bit);
    }
    rearm(event.token);
  }
  events_count_ = 0;
}

// After an event the poller's one-shot entry is disabled for all bits. The bits that the event did not report are armed
// again.
void Reactor::rearm(std::uint64_t token) noexcept {
  Watcher* watcher = watcher_of(token);
  if (watcher == nullptr || (watcher->interest_ & interest_once) == 0 || !has_entry(*watcher)) return;
  if (modify_entry(*watcher, watcher->interest_) < 0) mark_lost(*watcher);
}

void Reactor::interrupt_dispatch() noexcept {
  for (int i = first_unfinished(); i < events_count_; ++i) rearm(events_[static_cast<std::size_t>(i)].token);
  events_count_ = next_event_ = 0;
}

}  // namespace zloop
