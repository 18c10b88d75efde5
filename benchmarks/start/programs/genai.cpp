// Draws one image with OpenVINO GenAI's C++ pipeline, and says when each step is done.
//
// Built with the headers and libraries of GenAI's archive for C++:
//   c++ -std=c++17 -O2 genai.cpp -I$GENAI/runtime/include -L$GENAI/runtime/lib/intel64 -lopenvino_genai -lopenvino -o genai
// or with the libraries of the wheels openvino and openvino-genai, by their files, and the headers of the same release of
// GenAI's source (src/cpp/include): then OPENVINO_TOKENIZERS_PATH_GENAI names libopenvino_tokenizers.so while it runs.
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <string>

#include "openvino/genai/image_generation/text2image_pipeline.hpp"

namespace {

void write_ppm(const std::string& path, const ov::Tensor& image) {  // uint8 (1, H, W, 3)
    std::ofstream file(path, std::ios::binary);
    file << "P6\n" << image.get_shape()[2] << ' ' << image.get_shape()[1] << "\n255\n";
    file.write(static_cast<const char*>(image.data()), static_cast<std::streamsize>(image.get_byte_size()));
    if (!file.flush()) throw std::runtime_error("cannot write " + path);
}

void draw(char** values) {
    std::filesystem::path folder = values[1];
    std::string prompt = values[2], out = values[8];
    ov::genai::Text2ImagePipeline pipe(folder, "CPU", ov::AnyMap{{"INFERENCE_PRECISION_HINT", "f32"},
                                                                 {"INFERENCE_NUM_THREADS", std::atoi(values[7])}});
    auto scheduler = ov::genai::Scheduler::from_config(folder / "scheduler" / "scheduler_config.json",
                                                       ov::genai::Scheduler::Type::EULER_DISCRETE);
    pipe.set_scheduler(scheduler);
    std::function<bool(size_t, size_t, ov::Tensor&)> say = [](size_t step, size_t, ov::Tensor&) {
        std::printf("step %zu\n", step + 1);
        std::fflush(stdout);
        return false;
    };
    ov::Tensor image = pipe.generate(
        prompt, ov::AnyMap{ov::genai::num_inference_steps(static_cast<size_t>(std::atoi(values[3]))),
                           ov::genai::guidance_scale(std::strtof(values[4], nullptr)),
                           ov::genai::width(std::atoi(values[5])), ov::genai::height(std::atoi(values[6])),
                           ov::genai::callback(say)});
    write_ppm(out, image);
}

}  // namespace

int main(int count, char** values) {
    if (count != 9) {
        std::fprintf(stderr, "usage: %s FOLDER PROMPT STEPS GUIDANCE WIDTH HEIGHT THREADS OUT.ppm\n", values[0]);
        return 2;
    }
    try {
        draw(values);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
    return 0;
}
