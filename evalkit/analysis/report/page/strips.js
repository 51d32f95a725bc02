// What a method kept over a video's time: bars, and pictures where the page has them.

const TOP = 35; // a digit of base 36
const WIDTH = 1000;
const HEIGHT = 28;
const SEEN = 4; // an answer that is seen for a moment only is still seen on the page

// kept = [digits, cells, tokens a layer, pictures?]; spans = where the answer is seen, from and to
function strip(kept, video, who, spans) {
  const [digits, cells, tokens] = kept;
  const label = `${who}: ${keptText(cells, tokens)}`;
  const image = vector("svg", {
    class: "strip",
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    preserveAspectRatio: "none",
    role: "img",
    "aria-label": label,
  });
  image.append(vector("path", { d: bars(digits, video.starts) }));
  for (const [from, to] of spans) {
    const width = Math.max(SEEN, to - from);
    image.append(vector("rect", { class: "seen", x: Math.min(from, WIDTH - width), y: 0, width, height: HEIGHT }));
  }
  return image;
}

function keptText(cells, tokens) {
  return `${number.format(tokens)} tokens a layer in ${number.format(cells)} ${cells === 1 ? "cell" : "cells"}`;
}

function bars(digits, starts) {
  let path = "";
  for (let place = 0; place < digits.length; place += 1) {
    const share = parseInt(digits[place], 36) / TOP;
    if (share === 0) continue;
    const end = place + 1 < starts.length ? starts[place + 1] : WIDTH;
    const width = Math.max(1, (end - starts[place]));
    const height = (share * HEIGHT).toFixed(1);
    path += `M${starts[place]},${HEIGHT}v-${height}h${width.toFixed(1)}v${height}z`;
  }
  return path;
}

const sprites = new Map(); // video -> address of its image

function spriteOf(video) {
  if (!sprites.has(video)) {
    const bytes = Uint8Array.from(atob(video.sprite.image), (character) => character.charCodeAt(0));
    sprites.set(video, URL.createObjectURL(new Blob([bytes], { type: "image/webp" })));
  }
  return sprites.get(video);
}

function pictures(kept, video) {
  const tiles = kept[3];
  if (!video.sprite || !tiles) return null;
  const { width, height, columns, seconds } = video.sprite;
  const rows = Math.ceil(seconds.length / columns);
  const shown = tiles.map((tile) => {
    const at = `${number.format(seconds[tile])} s`;
    const picture = element("span", { class: "picture", role: "img", "aria-label": `frame at ${at}`, title: at });
    picture.style.aspectRatio = `${width} / ${height}`;
    picture.style.backgroundImage = `url(${spriteOf(video)})`;
    picture.style.backgroundSize = `${columns * 100}% ${rows * 100}%`;
    picture.style.backgroundPosition = `${share(tile % columns, columns)}% ${share(Math.floor(tile / columns), rows)}%`;
    return picture;
  });
  return element("div", { class: "pictures" }, ...shown);
}

// Where a background must stand so that its n-th of `count` equal parts shows, in percent.
const share = (place, count) => (count < 2 ? 0 : (100 * place) / (count - 1));
