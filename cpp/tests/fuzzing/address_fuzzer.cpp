// Any bytes as an address that the kernel might have stored, and as the text of a numeric host: what is taken from them
// is what inet_pton(3) takes, is the same after a round, and never reaches beyond them.
#include <arpa/inet.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "fuzzing/target.hpp"
#include "support/expect.hpp"
#include "zloop/address.hpp"

namespace {

using zloop::Address;
using zloop::SmallAddress;
using zloop::test::expect;
using Host = std::array<char, Address::host_capacity>;

void take_stored(const std::uint8_t* data, std::size_t size) {
  sockaddr_storage storage{};
  const std::size_t length = std::min(size, sizeof(storage));
  std::memcpy(&storage, data, length);
  const Address address(storage, static_cast<socklen_t>(length));
  expect(address.same_as(storage, static_cast<socklen_t>(length)), "an address is the same as what it was made of");
  const bool internet = address.family() == AF_INET || address.family() == AF_INET6;
  expect(internet || address.port() == 0, "only internet addresses have a port");
  expect(address.family() == AF_INET6 || (address.flow() == 0 && address.scope() == 0), "only IPv6 has flow and scope");
  Host host{};
  host.fill('x');
  if (address.format_host(host)) {
    expect(std::ranges::find(host, '\0') != host.end(), "a host's text has an end");
    Address again;
    expect(again.parse(host.data(), address.port(), address.family()), "what is formatted can be parsed");
    again.set_flow_and_scope(address.flow(), address.scope());
    expect(again.port() == address.port() && again.flow() == address.flow() && again.scope() == address.scope(),
           "an address is the same after a round");
    Host text{};
    expect(again.format_host(text) && std::strcmp(text.data(), host.data()) == 0, "a host is the same after a round");
  }
  SmallAddress small;
  const bool fits = small.assign(storage, static_cast<socklen_t>(length));
  expect(fits == (length <= sizeof(sockaddr_in6)), "a small address takes what is not longer than an IPv6 address");
  sockaddr_storage copy{};
  expect(small.copy_to(copy) == (fits ? length : 0), "a small address has the size of what it took");
  expect(!fits || std::memcmp(&copy, &storage, length) == 0, "a small address is what it took");
}

void take_text(const std::uint8_t* data, std::size_t size) {
  const std::string text(data, data + size);
  for (const int family : {AF_INET, AF_INET6, AF_UNSPEC}) {
    in_addr v4{};
    in6_addr v6{};
    const bool is_v4 = family != AF_INET6 && inet_pton(AF_INET, text.c_str(), &v4) == 1;
    const bool is_v6 = family != AF_INET && inet_pton(AF_INET6, text.c_str(), &v6) == 1;
    Address address;
    expect(address.parse(text.c_str(), 65535, family) == (is_v4 || is_v6), "a host is what inet_pton() takes");
    expect(!is_v4 || address.size() == sizeof(sockaddr_in), "an IPv4 address has its size");
    expect(!is_v6 || address.size() == sizeof(sockaddr_in6), "an IPv6 address has its size");
    Host host{};
    expect(address.format_host(host) == (is_v4 || is_v6), "what is parsed can be formatted");
  }
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  take_stored(data, size);
  take_text(data, size);
  return 0;
}
