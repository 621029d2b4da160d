#include "support/faults.hpp"

#include <algorithm>
#include <cerrno>
#include <sstream>
#include <system_error>
#include <utility>

namespace zloop::test {

std::string Injection::describe() const {
  if (call == nullptr) return "no fault";
  std::ostringstream text;
  text << "call " << fault.first << (fault.times > 1 ? " and the next of " : " of ") << call->name << ": ";
  if (fault.error != 0) {
    text << std::generic_category().message(fault.error) << " (" << fault.error << ')';
  } else {
    text << (fault.cut == Cut::to_one ? "one of all that it could move" : "half of what it could move");
  }
  return text.str();
}

bool Injection::is_harmless() const noexcept {
  return fault.error == 0 || fault.error == EINTR || fault.error == EAGAIN || fault.error == EEXIST;
}

bool Injection::means_gone() const noexcept {
  return call != nullptr && (fault.error == ENOENT || fault.error == EBADF || fault.error == EPERM) &&
         (call->call == &Interposer::poller_add || call->call == &Interposer::poller_modify ||
          call->call == &Interposer::poller_remove);
}

std::vector<Injection> injections(const FaultyCall& faulty, int calls) {
  std::vector<Injection> all;
  const auto add = [&](const Fault& fault) { all.push_back({.call = &faulty, .fault = fault}); };
  const int times_max = faulty.can_be_cut ? 1 : 2;
  for (int first = 1; first <= calls; ++first) {
    for (int times = 1; times <= times_max; ++times) {
      for (const int error : faulty.errors) {
        if (error != 0) add({.first = first, .times = times, .error = error});
      }
      if (!faulty.can_be_cut) continue;
      for (const Cut cut : {Cut::to_one, Cut::to_half}) add({.first = first, .times = times, .cut = cut});
    }
  }
  return all;
}

std::vector<PollerEntry> poller_entries(int poller_fd) {
  std::vector<PollerEntry> entries;
  REQUIRE(read_poller_entries(poller_fd, entries));
  return entries;
}

std::string poller_mismatch(const Reactor& reactor, const std::vector<Expectation>& expectations) {
  constexpr std::uint32_t wakeup_number = 0xFFFF'FFFF;
  constexpr unsigned interest_both = interest_read | interest_write;
  std::ostringstream mismatch;
  std::size_t watched = 0;
  std::vector<int> found;
  for (const PollerEntry& entry : poller_entries(reactor.poller_fd())) {
    const auto number = static_cast<std::uint32_t>(entry.token);
    if (number == wakeup_number) continue;
    const unsigned interest = entry.interest & interest_both;
    const auto expectation = std::ranges::find(expectations, entry.fd, &Expectation::fd);
    const bool is_once = (entry.interest & interest_once) != 0;
    const Expectation expected =
        expectation != expectations.end() ? *expectation : Expectation{.fd = entry.fd, .least = 0, .most = 0};
    found.push_back(entry.fd);
    if (interest != interest_none) ++watched;
    if (expectation == expectations.end() || std::cmp_not_equal(number, entry.fd) ||
        (expected.least & ~entry.interest) != 0 ||
        (interest != interest_none ? (entry.interest & ~expected.most) != 0 : !is_once)) {
      mismatch << "descriptor " << entry.fd << " is watched for " << entry.interest << " by the number " << number
               << ", which should be between " << expected.least << " and " << expected.most << "; ";
    }
  }
  for (const Expectation& expectation : expectations) {
    if ((expectation.least & interest_both) == interest_none ||
        std::ranges::find(found, expectation.fd) != found.end()) {
      continue;
    }
    mismatch << "descriptor " << expectation.fd << " is not watched, which should be for " << expectation.least << "; ";
  }
  if (reactor.watched() != watched) mismatch << watched << " are watched, not " << reactor.watched() << "; ";
  return mismatch.str();
}

}  // namespace zloop::test
