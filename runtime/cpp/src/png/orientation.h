// How an image lies, by its EXIF data (eXIf, or a text of ImageMagick's) or what Adobe's programs write (XMP).
#ifndef LDM_SRC_PNG_ORIENTATION_H
#define LDM_SRC_PNG_ORIENTATION_H

#include <string_view>

#include "src/png/png.h"

namespace ldm::png {

// The orientation that EXIF data say, 1 to 8; 0: none. False: these are no EXIF data. JPEG's mark may stand
// before them, once.
bool exif_orientation(Bytes exif, int& out);

// The EXIF data in the text "Raw profile type exif": digits from its fourth line on, without JPEG's mark.
// False: these are no digits.
// `fits` is false where no memory is left.
bool exif_of_profile(std::string_view text, Array<unsigned char>& out, bool& fits);

// The orientation in an XMP packet; 0: none.
int xmp_orientation(std::string_view packet);

}  // namespace ldm::png

#endif
