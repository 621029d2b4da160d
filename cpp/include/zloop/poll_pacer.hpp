// Decides which of the turns that would not block ask the poller for events.
//
// A turn that has callbacks to run would only look whether something has happened, and the system call for it costs as
// much as a callback. While such looks find nothing again and again, most are left out:
//
//   - Without a watcher there is nothing to be found: `most_skipped` turns in a row go without a look.
//   - With one, `looks_in_vain` looks in a row must have found nothing before. From then on a look is left out if fewer
//     than `most_skipped` were since the last one, and that was less than `longest_gap_ns` ago. So an event is told at
//     most that much later than by a loop that looks in every turn, and the callbacks of the turn that runs.
//   - An event that is found, a turn that would block, a change of what is watched, and a loop that begins to run end
//     it: the next `looks_in_vain` turns look again.
//
// A busy server works in phases: what a request's bytes have woken runs in the turn after the one that read them. A
// look between the two would find the first few of the next requests, and so split the connections into groups that are
// in different phases for good; each group finds the caches full of the other's code, and pays for looks of its own.
//
//   - After a look that has found `many` events, the next turn goes without one if less than `busy_gap_ns` have passed.
//     An event is told one turn later then, as if it had come that much later. It is never told earlier: who awaits
//     create_connection() goes on before the first bytes are told, as in asyncio.
//
// Programs that count turns (`await asyncio.sleep(0)` until an answer is there) are told when they expect it, as long
// as they do not count beyond `looks_in_vain`, and have few connections.
#pragma once

#include <cstdint>

#include "zloop/clock.hpp"

namespace zloop {

class PollPacer {
 public:
  static constexpr int looks_in_vain = 64;
  static constexpr int most_skipped = 64;
  static constexpr std::int64_t longest_gap_ns = 50'000;
  static constexpr int many = 4;
  static constexpr std::int64_t busy_gap_ns = 1'000'000;

  // `clock` gives nanoseconds that never go backwards.
  explicit PollPacer(std::int64_t (*clock)() noexcept = monotonic_ns) noexcept : clock_(clock) {}

  // Whether this turn, which would not block, goes without a look; it is counted then.
  bool skips(bool watching) noexcept {
    if (skipped_ == most_skipped || (watching && !may_skip())) return false;
    ++skipped_;
    return true;
  }

  // A turn that would not block has looked. `found`: how many events, or below zero: it has been disturbed.
  void looked(int found) noexcept {
    skipped_ = 0;
    found_many_ = found >= many;
    if (found != 0) {
      in_vain_ = 0;
    } else if (in_vain_ < looks_in_vain) {
      ++in_vain_;
    }
    if (found_many_ || in_vain_ == looks_in_vain) looked_at_ = clock_();
  }

  // A turn that would block has waited, and found so many.
  void waited(int found) noexcept {
    looked(found);
    in_vain_ = 0;
  }

  // Events have become likely.
  void restart() noexcept {
    found_many_ = false;
    in_vain_ = 0;
  }

 private:
  // Whether this turn may go without a look although something is watched.
  [[nodiscard]] bool may_skip() const noexcept {
    if (found_many_ && skipped_ == 0) return clock_() - looked_at_ < busy_gap_ns;
    return in_vain_ == looks_in_vain && clock_() - looked_at_ < longest_gap_ns;
  }

  std::int64_t (*clock_)() noexcept;
  int skipped_ = 0;             // turns since the last look
  int in_vain_ = 0;             // looks in a row that found nothing, up to looks_in_vain
  bool found_many_ = false;     // in the last look, unless events have become likely since
  std::int64_t looked_at_ = 0;  // when the last look was; of no meaning before looks_in_vain or `many`
};

}  // namespace zloop
