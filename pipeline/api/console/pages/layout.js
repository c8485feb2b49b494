// Where the parts of the flow's picture lie. Pure: from the width and the groups to boxes and pipes, in pixels.

/** From this width on the flow runs from left to right; below it, from top to bottom. */
export const WIDE = 860;
const BOX = 112;
const SMALL = 46;
const GAP = 20;

/** Lay out: {width, height, wide, boxes: {name: {x, y, w, h}}, pipes: [{name, d, at, anchor}]}; groups are `group0`, `group1` … */
export function layOut(width, groups) {
  return width >= WIDE ? across(width, groups) : down(width, groups);
}

function across(width, groups) {
  const gap = Math.max(92, Math.min(150, width * 0.11));
  const w = (width - 3 * gap) / 4;
  const stack = Math.max(groups.length, 1) * (BOX + GAP) - GAP;
  const main = Math.max(stack, 2 * BOX + GAP);
  const column = (place) => place * (w + gap);
  const middle = (h) => (main - h) / 2;
  const foot = main + 34;
  const boxes = {
    edge: { x: 0, y: middle(BOX), w, h: BOX },
    kafka: { x: column(1), y: middle(BOX + 26), w, h: BOX + 26 },
    postgres: { x: column(3), y: middle(2 * BOX + GAP), w, h: BOX },
    redis: { x: column(3), y: middle(2 * BOX + GAP) + BOX + GAP, w, h: BOX },
    refused: { x: 0, y: foot, w, h: SMALL },
    letters: { x: column(2), y: foot, w, h: SMALL },
  };
  groups.forEach((_, place) => {
    boxes[`group${place}`] = { x: column(2), y: middle(stack) + place * (BOX + GAP), w, h: BOX };
  });
  const pipes = [
    curve("accepted", boxes.edge, boxes.kafka),
    drop("refused", boxes.edge, boxes.refused),
    drop("letters", boxes[`group${groups.length - 1}`], boxes.letters),
  ];
  groups.forEach((group, place) => {
    pipes.push(curve(`read${place}`, boxes.kafka, boxes[`group${place}`]));
    pipes.push(curve(`postgres${place}`, boxes[`group${place}`], boxes.postgres));
    if (group.toRedis) pipes.push(curve(`redis${place}`, boxes[`group${place}`], boxes.redis));
  });
  return { width, height: foot + SMALL + 2, wide: true, boxes, pipes };
}

/** A pipe from the right side of one box to the left side of another. */
function curve(name, from, to) {
  const [x1, y1, x2, y2] = [from.x + from.w + 5, from.y + from.h / 2, to.x - 7, to.y + to.h / 2];
  const bend = (x2 - x1) / 2;
  const d = `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`;
  return { name, d, at: { x: (x1 + x2) / 2, y: Math.min(y1, y2) === y1 && y1 === y2 ? y1 : (y1 + y2) / 2 }, anchor: "middle" };
}

function drop(name, from, to) {
  const x = from.x + 28;
  return { name, d: `M${x} ${from.y + from.h + 5}V${to.y - 6}`, at: { x: x + 12, y: to.y - 12 }, anchor: "start" };
}

function down(width, groups) {
  const step = BOX + 46;
  const boxes = { edge: { x: 0, y: 0, w: width, h: BOX }, kafka: { x: 0, y: step, w: width, h: BOX + 26 } };
  let y = step + BOX + 26 + 46;
  groups.forEach((_, place) => {
    boxes[`group${place}`] = { x: 0, y, w: width, h: BOX };
    y += BOX + (place === groups.length - 1 ? 46 : 14);
  });
  const half = (width - 12) / 2;
  boxes.postgres = { x: 0, y, w: half, h: BOX };
  boxes.redis = { x: half + 12, y, w: half, h: BOX };
  boxes.refused = { x: 0, y: y + BOX + 14, w: half, h: SMALL };
  boxes.letters = { x: half + 12, y: y + BOX + 14, w: half, h: SMALL };
  const last = boxes[`group${groups.length - 1}`];
  const pipes = [fall("accepted", boxes.edge, boxes.kafka), fall("read0", boxes.kafka, boxes.group0), fall("postgres0", last, boxes.postgres)];
  if (groups.some((group) => group.toRedis)) pipes.push(fall("redis0", last, boxes.redis));
  return { width, height: y + BOX + 14 + SMALL + 2, wide: false, boxes, pipes };
}

function fall(name, from, to) {
  const x = to.x + 28;
  return { name, d: `M${x} ${from.y + from.h + 5}V${to.y - 7}`, at: { x: x + 16, y: (from.y + from.h + to.y) / 2 + 4 }, anchor: "start" };
}
