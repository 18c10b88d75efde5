// What this machine has of what variants need: engines that the settings allow, and units of the CPU.
#ifndef LDM_ENGINES_MACHINE_H
#define LDM_ENGINES_MACHINE_H

#include "core/run/variant_choice.h"
#include "src/engines/components.h"

namespace ldm::engines {

class Machine final : public VariantHost {
public:
    // Both must outlive it.
    Machine(Scope& scope, const Settings& settings) : scope_(scope), settings_(settings) {}

    // Once, before it is asked. Code: request.engine.
    Status start();

    std::string_view chosen_engine() override { return {chosen_, chosen_size_}; }
    bool knows_engine(std::string_view name) override;
    bool misses(std::string_view engine, Failure& reason) override;
    bool computes_in(std::string_view engine, Precision precision, Failure& reason) override;
    bool has_unit(std::string_view name) override;

private:
    Scope& scope_;
    const Settings& settings_;
    char chosen_[64] = {0};
    std::size_t chosen_size_ = 0;
};

}  // namespace ldm::engines

#endif
