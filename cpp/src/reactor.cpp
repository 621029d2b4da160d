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

// Not zeroed: pages that no read has reached yet cost nothing. Null when memory is out.
std::unique_ptr<char[]> make_buffer(std::size_t size) noexcept {
  sys::expect_large_blocks();
  return std::unique_ptr<char[]>(new (std::nothrow) char[size]);
}

}  // namespace

void Deferred::cancel() noexcept {
  if (!scheduled()) return;
  previous_->next_ = next_;
  next_->previous_ = previous_;
  next_ = previous_ = nullptr;
}

DeferredList::~DeferredList() {
  while (!empty()) head_.next_->cancel();
  head_.next_ = head_.previous_ = nullptr;
}

void DeferredList::schedule(Deferred& deferred) noexcept {
  if (deferred.scheduled()) return;
  deferred.previous_ = head_.previous_;
  deferred.next_ = &head_;
  head_.previous_->next_ = &deferred;
  head_.previous_ = &deferred;
}

void DeferredList::run() noexcept {
  assert(!end_of_run_.scheduled());
  if (empty()) return;
  schedule(end_of_run_);
  while (head_.next_ != &end_of_run_) {
    Deferred& deferred = *head_.next_;
    deferred.cancel();
    deferred.run_(deferred.owner_);
  }
  end_of_run_.cancel();
}

int Watcher::set_interest(unsigned interest) noexcept {
  return attached() ? reactor_->set_interest(*this, interest) : -EBADF;
}

void Watcher::detach() noexcept {
  if (attached()) reactor_->detach(*this);
}

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
    if (watcher == nullptr || watcher->interest_ == interest_none) continue;
    const int number = static_cast<int>(fd);
    // A descriptor that the child has closed is watched no more.
    if (poller_->add(number, watcher->interest_, token_of(number)) < 0) note_interest(*watcher, interest_none);
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
  const int fd = watcher.fd_;
  int status = own_kernel_objects();
  if (status < 0) return status;
  if (interest == interest_none) {
    poller_->remove(fd);  // may fail: its owner closed it under us, and the kernel forgot it by itself
    ++slots_[static_cast<std::size_t>(fd)].generation;  // an event fetched already is not one of the next interest's
  } else if (watcher.interest_ == interest_none) {
    status = poller_->add(fd, interest, token_of(fd));
  } else {
    status = poller_->modify(fd, interest, token_of(fd));
    // Closed and opened again under us: the kernel does not know the new one, and epoll says so.
    if (status == -ENOENT) status = poller_->add(fd, interest, token_of(fd));
  }
  if (status == 0) note_interest(watcher, interest);
  return status;
}

void Reactor::note_interest(Watcher& watcher, unsigned interest) noexcept {
  if (watcher.interest_ != interest_none) --watched_;
  if (interest != interest_none) ++watched_;
  watcher.interest_ = interest;
}

void Reactor::detach(Watcher& watcher) noexcept {
  if (!watcher.attached()) return;
  set_interest(watcher, interest_none);
  note_interest(watcher, interest_none);  // also when a forked child could not make a poller of its own
  Slot& slot = slots_[static_cast<std::size_t>(watcher.fd_)];
  assert(slot.watcher == &watcher);
  slot.watcher = nullptr;
  ++slot.generation;
  watcher.fd_ = -1;
  watcher.reactor_ = nullptr;
  watcher.ops_ = nullptr;
  watcher.owner_ = nullptr;
}

const Watcher* Reactor::watcher_of(std::uint64_t token) const noexcept {
  if (token == wakeup_token) return nullptr;
  const Slot& slot = slots_[static_cast<std::size_t>(fd_of(token))];
  return slot.generation == generation_of(token) ? slot.watcher : nullptr;
}

int Reactor::wait(std::int64_t timeout_ns) noexcept {
  assert(is_open());
  if (const int status = own_kernel_objects(); status < 0) return status;
  ++waits_;
  if (timeout_ns != 0 && (!deferred_.empty() || !wakeup_.try_sleep())) timeout_ns = 0;
  const int count = poller_->wait(events_.data(), events_capacity, timeout_ns);
  wakeup_.awake();
  events_count_ = count > 0 ? count : 0;
  return count;
}

void Reactor::dispatch() noexcept {
  for (int i = 0; i < events_count_; ++i) {
    const PollEvent event = events_[static_cast<std::size_t>(i)];
    for (const unsigned bit : {interest_read, interest_write}) {
      if ((event.ready & bit) == 0 || i >= events_count_) continue;
      // Looked up for each bit: what was called last may have changed anything.
      const Watcher* watcher = watcher_of(event.token);
      if (watcher != nullptr && (watcher->interest_ & bit) != 0) watcher->ops_->on_ready(watcher->owner_, bit);
    }
  }
  events_count_ = 0;
}

char* Reactor::read_buffer() noexcept {
  if (read_buffer_ == nullptr) read_buffer_ = make_buffer(read_buffer_size);
  return read_buffer_.get();
}

char* Reactor::datagram_buffer() noexcept {
  if (datagram_buffer_ == nullptr) datagram_buffer_ = make_buffer(datagram_buffer_size);
  return datagram_buffer_.get();
}

}  // namespace zloop
