// The verb `run`: draw images from prompts.
#include <cctype>
#include <cinttypes>
#include <cstdio>
#include <optional>

#include "src/tool/terminal.h"
#include "src/tool/verbs.h"

namespace ldm::tool {

namespace {

constexpr Option options_of_run[] = {
    {"--prompt", "TEXT", "what to draw; \"\" is allowed. Given several times, an image for each"},
    {"--negative", "TEXT", "what not to draw; once, or once for each prompt"},
    {"--seed", "INTEGER", "of the first image; image b has seed + b (a random one)"},
    {"--count", "INTEGER", "number of images for each prompt (1)"},
    {"--image", "PNG", "image to start from; transparent parts become white"},
    {"--strength", "NUMBER", "share of the steps that change --image, 0 to 1 (0.8, with --mask 1)"},
    {"--mask", "PNG", "white where --image is inpainted; transparent parts are kept"},
    {"--variation", "SEED:STRENGTH", "blend this share of another seed's noise, such as 7:0.2"},
    {"--steps", "INTEGER", "sampling steps (the package's)"},
    {"--guidance", "NUMBER", "classifier-free guidance; 1 or less turns it off (the package's)"},
    {"--guidance-rescale", "NUMBER", "against overexposure by guidance, 0 to 1 (0)"},
    {"--guidance-interval", "A:B", "guide only between these shares of the run (0:1)"},
    {"--sampler", "TEXT", "with options after a colon, such as dpmsolver:order=3 (the package's)"},
    {"--stop-after", "INTEGER", "end after this many steps; the PNG records it"},
    {"--size", "WxH", "in pixels (the package's, or that of --image)"},
    {"--original-size", "WxH", "what SDXL is told of the original (the image's size)"},
    {"--crop-top-left", "TOP:LEFT", "what SDXL is told of the crop (0:0)"},
    {"--target-size", "WxH", "what SDXL is told of the image (its size)"},
    {"--weighted", "", "read (word:1.3), [word] and BREAK in prompts; allow long ones"},
    {"--noise", "TEXT", "philox, or torch or cuda for diffusers' seeds (philox)"},
    engine_option,
    provider_option,
    provider_options_option,
    threads_option,
    map_weights_option,
    no_map_weights_option,
    library_option,
    budget_option,
    exact_option,
    variant_option,
    check_option,
    {"--out", "PNG", "output (image.png); several are numbered"},
    {"--force", "", "replace what is there"},
};

// What the options of a run point at.
struct Inputs {
    explicit Inputs(const Context& its) : context(its) {
        ldm_image_init(&image, sizeof image);
        ldm_image_init(&mask, sizeof mask);
    }
    ~Inputs() {
        ldm_image_free(&image);
        ldm_image_free(&mask);
    }
    Inputs(const Inputs&) = delete;
    Inputs& operator=(const Inputs&) = delete;

    bool read_images(const Arguments& arguments, ldm_run_options& options) {
        if (const char* path = arguments.text("--image")) {
            if (ldm_image_read_png(context.get(), path, &image) != LDM_OK) return false;
            options.images = &image;
            options.image_count = 1;
        }
        if (const char* path = arguments.text("--mask")) {
            if (ldm_image_read_png(context.get(), path, &mask) != LDM_OK) return false;
            options.mask = &mask;
        }
        return true;
    }

    const Context& context;
    std::vector<const char*> prompts, negatives;
    ldm_image image, mask;
};

bool read_paths(Arguments& arguments) {
    return arguments.path("--out") && arguments.path("--image") && arguments.path("--mask");
}

bool read_prompts(Arguments& arguments, Inputs& inputs, ldm_run_options& options) {
    inputs.prompts = arguments.texts("--prompt");
    inputs.negatives = arguments.texts("--negative");
    options.prompts = inputs.prompts.data();
    options.prompt_count = inputs.prompts.size();
    if (inputs.negatives.size() == 1) options.negative = inputs.negatives[0];
    if (inputs.negatives.size() < 2) return true;
    options.negatives = inputs.negatives.data();
    return inputs.negatives.size() == inputs.prompts.size() ||
           arguments.refuse("--negative", std::to_string(inputs.negatives.size()) + " texts",
                            "one for all prompts, or one for each of " + std::to_string(inputs.prompts.size()));
}

bool read_options(Arguments& arguments, ldm_run_options& options) {
    options.sampler = arguments.text("--sampler");
    options.noise = arguments.text("--noise");
    options.syntax = arguments.has("--weighted") ? "weighted" : nullptr;
    options.has_seed = arguments.has("--seed");
    options.has_variation = arguments.has("--variation");
    return arguments.natural("--seed", options.seed) && arguments.integer("--count", 1, options.count) &&
           arguments.integer("--steps", 1, options.steps) && arguments.real("--guidance", options.guidance) &&
           arguments.real("--guidance-rescale", options.guidance_rescale) &&
           arguments.reals("--guidance-interval", options.guidance_from, options.guidance_to) &&
           arguments.size("--size", options.width, options.height) &&
           arguments.size("--original-size", options.original_width, options.original_height) &&
           arguments.corner("--crop-top-left", options.crop_top, options.crop_left) &&
           arguments.size("--target-size", options.target_width, options.target_height) &&
           arguments.real("--strength", options.strength) &&
           arguments.seed_and_share("--variation", options.variation_seed, options.variation_strength) &&
           arguments.integer("--stop-after", 1, options.stop_after);
}

constexpr std::string_view ending = ".png";

bool ends_in_png(std::string_view path) {
    if (path.size() <= ending.size()) return false;
    std::string_view last = path.substr(path.size() - ending.size());
    for (std::size_t index = 0; index < ending.size(); ++index) {
        if (std::tolower(static_cast<unsigned char>(last[index])) != ending[index]) return false;
    }
    return true;
}

// The file of an image: of several, the number is before the ending.
std::string output(const std::string& out, std::size_t index, std::size_t count) {
    if (count == 1) return out;
    std::size_t stem = out.size() - ending.size();
    return out.substr(0, stem) + "-" + std::to_string(index + 1) + out.substr(stem);
}

// Refuse outputs that cannot be written, before the work.
bool check_outputs(const Context& context, const std::string& out, std::size_t count, bool force) {
    Uninterrupted whole;
    for (std::size_t index = 0; index < count; ++index) {
        if (ldm_check_output(context.get(), output(out, index, count).c_str(), force) != LDM_OK) return false;
    }
    return true;
}

// Whether starting takes most of the time: of one image with no more steps and pixels than the built-in model's have.
bool is_short(const Context& context, const Package& package, const ldm_run_options& options) {
    constexpr double most_work = 20.0 * 128 * 128;
    ldm_defaults defaults;
    ldm_defaults_init(&defaults, sizeof defaults);
    if (options.prompt_count != 1 || options.count > 1) return false;
    if (ldm_package_defaults(context.get(), package.get(), &defaults) != LDM_OK) return false;
    bool has_image = options.width == 0 && options.image_count > 0;
    double width = has_image ? options.images->width : options.width != 0 ? options.width : defaults.width;
    double height = has_image ? options.images->height : options.width != 0 ? options.height : defaults.height;
    return width * height * (options.steps != 0 ? options.steps : defaults.steps) <= most_work;
}

bool save(const Context& context, const Run& drawn, const std::string& out, bool force) {
    std::size_t count = drawn.image_count();
    for (std::size_t index = 0; index < count; ++index) {
        std::string path = output(out, index, count);
        std::uint64_t seed = 0;
        Uninterrupted whole;
        if (ldm_run_save_png(context.get(), drawn.get(), index, path.c_str(), force) != LDM_OK) return false;
        if (ldm_run_seed(context.get(), drawn.get(), index, &seed) != LDM_OK) return false;
        std::printf("%s (seed %" PRIu64 ")\n", printable(path).c_str(), seed);
    }
    return true;
}

int run(Arguments& arguments) {
    ContextOptions context_options;
    context_options->log = print_notices;
    context_options->progress = print_step;
    Context context(context_options);
    if (context.get() == nullptr) return complain(context);
    RunOptions options;
    PackageOptions package_options;
    EngineChoice choice;
    Inputs inputs(context);
    if (!arguments.has("--prompt")) return complain("no prompt was given; add --prompt \"...\"", misused);
    bool are_read = read_prompts(arguments, inputs, *options.operator->()) &&
                    read_options(arguments, *options.operator->()) && choice.read(arguments) &&
                    read_check(arguments, package_options) && read_paths(arguments);
    if (!are_read) return complain(arguments.error(), misused);
    std::string out = arguments.has("--out") ? arguments.text("--out") : "image.png";
    bool force = arguments.has("--force");
    if (!ends_in_png(out))
        return complain("the output " + out + " should end in .png, the one format written here", misused);
    if (!inputs.read_images(arguments, *options.operator->())) return complain(context);

    auto package = Package::open(context, arguments.place().c_str(), package_options);
    if (!package) return complain(context);
    choice.map_weights(is_short(context, *package, *options.operator->()));
    std::optional<Engine> engine;
    if (choice.may_be_lossy()) {  // which variant draws is to be known before the run is made
        engine = Engine::open(context, *package, choice.options());
        if (!engine) return complain(context);
        options->variant = engine->variant();
    }
    auto drawn = Run::create(context, *package, options);
    if (!drawn || !check_outputs(context, out, drawn->image_count(), force)) return complain(context);
    if (!engine) engine = Engine::open(context, *package, choice.options());
    if (!engine || engine->draw(context, *drawn) != LDM_OK) return complain(context);
    return save(context, *drawn, out, force) ? succeeded : complain(context);
}

}  // namespace

const Verb run_verb =
    verb("run", "Draw with a package.", "ldm run ./package --prompt \"red apple, 3d style\" --seed 1 --out apple.png",
         options_of_run, run);

}  // namespace ldm::tool
