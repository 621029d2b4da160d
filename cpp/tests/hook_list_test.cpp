#include "zloop/hook_list.hpp"

#include <memory>
#include <vector>

#include "support/catch.hpp"

namespace {

using zloop::HookList;
using zloop::ListHook;

struct Member {
  explicit Member(int its_number) : number(its_number) {}

  int number;
  ListHook hook;
};

std::vector<int> numbers_of(const HookList& list) {
  std::vector<int> numbers;
  list.for_each([&](void* owner) {
    numbers.push_back(static_cast<Member*>(owner)->number);
    return 0;
  });
  return numbers;
}

TEST_CASE("members are visited in the order in which they joined") {
  HookList list;
  CHECK(list.empty());
  Member one(1);
  Member two(2);
  Member three(3);
  for (Member* member : {&one, &two, &three}) list.add(member->hook, member);
  CHECK_FALSE(list.empty());
  CHECK(numbers_of(list) == std::vector{1, 2, 3});
}

TEST_CASE("a visit that says so is the last") {
  HookList list;
  Member one(1);
  Member two(2);
  list.add(one.hook, &one);
  list.add(two.hook, &two);
  int visits = 0;
  const int answer = list.for_each([&](void* /*owner*/) {
    ++visits;
    return 7;
  });
  CHECK(answer == 7);
  CHECK(visits == 1);
}

TEST_CASE("a member leaves, and may join again") {
  HookList list;
  Member one(1);
  Member two(2);
  list.add(one.hook, &one);
  list.add(two.hook, &two);
  one.hook.leave();
  CHECK_FALSE(one.hook.linked());
  one.hook.leave();
  CHECK(numbers_of(list) == std::vector{2});
  list.add(one.hook, &one);
  CHECK(numbers_of(list) == std::vector{2, 1});
}

TEST_CASE("a member that goes is no member any more") {
  HookList list;
  Member one(1);
  list.add(one.hook, &one);
  auto two = std::make_unique<Member>(2);
  list.add(two->hook, two.get());
  two.reset();
  CHECK(numbers_of(list) == std::vector{1});
}

TEST_CASE("the first member is taken out") {
  HookList list;
  Member one(1);
  Member two(2);
  list.add(one.hook, &one);
  list.add(two.hook, &two);
  CHECK(list.pop_front() == &one);
  CHECK_FALSE(one.hook.linked());
  CHECK(list.pop_front() == &two);
  CHECK(list.empty());
}

TEST_CASE("a list that goes leaves its members behind") {
  Member one(1);
  {
    HookList list;
    list.add(one.hook, &one);
    CHECK(one.hook.linked());
  }
  CHECK_FALSE(one.hook.linked());
}

}  // namespace
