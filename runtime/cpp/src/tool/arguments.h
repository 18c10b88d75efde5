// Command lines: a verb, options with values, switches, and one name without a dash.
#ifndef LDM_TOOL_ARGUMENTS_H
#define LDM_TOOL_ARGUMENTS_H

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ldm::tool {

// One option of a verb.
struct Option {
    std::string_view name;   // "--steps"
    std::string_view value;  // what help calls its value; "" for a switch
    std::string_view help;
};

struct Verb {
    std::string_view name;
    std::string_view place;  // what help calls the name without a dash; "" for none
    std::string_view help;
    std::string_view example;
    const Option* options;
    std::size_t option_count;
};

// What was given to a verb. A failure is one sentence in `error`.
class Arguments {
public:
    // Read what follows the verb.
    bool read(const Verb& verb, int count, char** given);

    const std::string& error() const { return error_; }
    const std::string& place() const { return place_; }
    // The value of an option; null where it was not given. It lasts as long as the arguments.
    const char* text(std::string_view name) const;
    bool has(std::string_view name) const { return text(name) != nullptr; }

    // Values of a kind; false with an error where it is none. Nothing changes where it was not given.
    bool integer(std::string_view name, std::int64_t low, std::int64_t high, std::int32_t& out);
    bool natural(std::string_view name, std::uint64_t& out);
    bool real(std::string_view name, double& out);
    // Two integers, such as "512x512" or "7:9".
    bool pair(std::string_view name, char between, std::int32_t& first, std::int32_t& second);
    bool reals(std::string_view name, double& first, double& second);  // "0.2:0.8"
    bool seed_and_share(std::string_view name, std::uint64_t& seed, double& share);  // "7:0.2"

private:
    struct Given {
        std::string_view name;
        const char* value;
    };
    bool refuse(std::string_view name, std::string_view expected);

    std::vector<Given> given_;
    std::string place_;
    std::string error_;
};

void print_help(const Verb& verb);

}  // namespace ldm::tool

#endif
