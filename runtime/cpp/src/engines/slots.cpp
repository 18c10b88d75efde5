#include "src/engines/slots.h"

#include <utility>

namespace ldm::engines {

namespace {

using Lock = std::lock_guard<std::mutex>;

// Without a lock.
void close(const Engine& engine) {
    if (engine.close != nullptr) engine.close(engine.self);
}

}  // namespace

bool Slots::make(Arena& arena, std::size_t count) {
    slots_ = arena.make<Slot>(count);
    count_ = slots_ == nullptr ? 0 : count;
    return slots_ != nullptr;
}

bool Slots::use(std::size_t place) {
    Lock lock(state_);
    Slot& slot = slots_[place];
    if (!slot.is_open) return false;
    ++slot.users;
    slot.rests = false;
    return true;
}

void Slots::open(std::size_t place, const Engine& engine) {
    Lock lock(state_);
    slots_[place] = {engine, 1, true, false};
}

void Slots::release(std::size_t place) {
    Engine done;
    {
        Lock lock(state_);
        --slots_[place].users;
        done = taken_if_idle(slots_[place]);
    }
    close(done);
}

void Slots::rest(std::size_t place) {
    if (slots_ == nullptr) return;
    Engine done;
    {
        Lock lock(state_);
        Slot& slot = slots_[place];
        slot.rests = slot.is_open && slot.engine.maps_weights;
        done = taken_if_idle(slot);
    }
    close(done);
}

void Slots::close_all() {
    for (std::size_t place = 0; place < count_; ++place) close(std::exchange(slots_[place], Slot()).engine);
}

// The engine of a slot that rests and has no user: the slot is closed, the engine is still to be. Else none.
Engine Slots::taken_if_idle(Slot& slot) {
    if (slot.users > 0 || !slot.rests) return Engine();
    return std::exchange(slot, Slot()).engine;
}

}  // namespace ldm::engines
