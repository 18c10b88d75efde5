// The open engines of a package, with engines that only count: when they are closed, and who waits for it.
#include "src/engines/slots.h"

#include <atomic>
#include <chrono>
#include <thread>

#include "tests/check.h"

using namespace ldm;
using engines::Engine;
using engines::Slots;

namespace {

// An engine that notes how often it was closed, and may take as long for it as the test wants.
struct Fake {
    std::atomic<int> closed{0};
    std::atomic<bool> is_closing{false}, may_end{true};

    Engine engine(bool maps_weights) {
        Engine engine;
        engine.self = this;
        engine.maps_weights = maps_weights;
        engine.close = [](void* self) {
            auto* fake = static_cast<Fake*>(self);
            fake->is_closing = true;
            while (!fake->may_end) std::this_thread::yield();
            ++fake->closed;
        };
        return engine;
    }
};

struct Fixture {
    Allocator memory = system_allocator();
    Arena arena{memory};
    Slots slots;

    Fixture() { CHECK(slots.make(arena, 2)); }
};

void what_rests_is_closed_once_nobody_is_at_it() {
    Fixture its;
    Fake mapped, kept;
    CHECK(!its.slots.use(0) && !its.slots.use(1));
    its.slots.rest(0);  // nothing is open
    its.slots.open(0, mapped.engine(true));
    its.slots.open(1, kept.engine(false));
    CHECK(its.slots.use(0) && its.slots.engine(0).self == &mapped);
    its.slots.rest(0);
    its.slots.release(0);
    CHECK(mapped.closed == 0);
    its.slots.release(0);
    CHECK(mapped.closed == 1 && !its.slots.use(0));
    its.slots.rest(1);
    its.slots.release(1);
    CHECK(kept.closed == 0 && its.slots.use(1));
    its.slots.release(1);
    its.slots.open(0, mapped.engine(true));
    its.slots.rest(0);
    CHECK(its.slots.use(0));  // it is wanted again
    its.slots.release(0);
    its.slots.release(0);
    CHECK(mapped.closed == 1);
    its.slots.close_all();
    its.slots.close_all();
    CHECK(mapped.closed == 2 && kept.closed == 1);
}

// A thread closes an engine, which takes as long as it may; the others go on with the rest.
template <typename Close>
void nobody_waits_for_a_close(Close close) {
    Fixture its;
    Fake slow, other;
    slow.may_end = false;
    its.slots.open(0, slow.engine(true));
    its.slots.open(1, other.engine(true));
    std::thread closing([&] { close(its.slots); });
    while (!slow.is_closing) std::this_thread::yield();
    std::atomic<bool> has_gone_on{false};
    std::thread going_on([&] {
        CHECK(!its.slots.use(0) && its.slots.use(1));
        its.slots.release(1);
        has_gone_on = true;
    });
    for (int wait = 0; wait < 2000 && !has_gone_on; ++wait) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    CHECK(has_gone_on && slow.closed == 0);
    slow.may_end = true;
    closing.join();
    going_on.join();
    CHECK(slow.closed == 1);
    its.slots.close_all();
}

}  // namespace

int main() {
    what_rests_is_closed_once_nobody_is_at_it();
    nobody_waits_for_a_close([](Slots& slots) {
        slots.release(0);
        slots.rest(0);
    });
    nobody_waits_for_a_close([](Slots& slots) {
        slots.rest(0);
        slots.release(0);
    });
    return done();
}
