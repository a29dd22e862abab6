// The figure on the first page: a batch that moves, and what four lines of arithmetic make of it.
const BATCH = [-1.9, -1.3, -0.95, -0.7, -0.4, -0.15, 0.1, 0.3, 0.6, 0.85, 1.5, 2.3];
const EPSILON = 1e-5;
const SVG = "http://www.w3.org/2000/svg";
const ROWS = [44, 124, 204]; // heights of the three axes, in pixels
const REACH = 9; // what the axes show of the numbers, to both sides of 0

const moments = (x) => {
  const mean = x.reduce((sum, value) => sum + value, 0) / x.length;
  return [mean, x.reduce((sum, value) => sum + (value - mean) ** 2, 0) / x.length];
};

const batchNorm = (x, gamma, beta) => {
  const [mean, variance] = moments(x);
  const normalized = x.map((value) => (value - mean) / Math.sqrt(variance + EPSILON));
  return [normalized, normalized.map((value) => gamma * value + beta)];
};

const draw = (tag, parent, attributes = {}) => {
  const element = parent.appendChild(document.createElementNS(SVG, tag));
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
};

const start = (figure) => {
  const svg = figure.querySelector("svg");
  const sliders = Object.fromEntries([...figure.querySelectorAll("input")].map((input) => [input.name, input]));
  const button = figure.querySelector("button");
  const axes = ROWS.map((y) => draw("line", svg, { class: "axis", y1: y, y2: y }));
  const zero = draw("line", svg, { class: "zero", y1: ROWS[0] - 22, y2: ROWS[2] + 14 });
  const threads = BATCH.map(() => draw("polyline", svg, { class: "thread" }));
  const dots = ROWS.map((y, row) => BATCH.map(() => draw("circle", svg, { class: `row-${row}`, cy: y, r: 5 })));
  const labels = ROWS.map((y) => draw("text", svg, { x: 4, y: y - 18 }));

  const update = () => {
    const width = svg.clientWidth || 700;
    const [shift, spread, gamma, beta] = ["shift", "spread", "gamma", "beta"].map((name) => +sliders[name].value);
    const x = BATCH.map((value) => shift + spread * value);
    const rows = [x, ...batchNorm(x, gamma, beta)];
    const place = (value) => width / 2 + (value * width) / (2 * REACH);
    svg.setAttribute("viewBox", `0 0 ${width} 224`);
    axes.forEach((axis) => axis.setAttribute("x2", width));
    for (const end of ["x1", "x2"]) zero.setAttribute(end, width / 2);
    rows.forEach((values, row) => {
      values.forEach((value, i) => dots[row][i].setAttribute("cx", place(value)));
      const [mean, variance] = moments(values);
      const name = ["input x", "normalized x̂", "output y"][row];
      labels[row].textContent = `${name}: mean ${round(mean)}, standard deviation ${round(Math.sqrt(variance))}`;
    });
    threads.forEach((thread, i) => {
      thread.setAttribute("points", rows.map((values, row) => `${place(values[i])},${ROWS[row]}`).join(" "));
    });
  };
  const round = (value) => (Math.abs(value) < 0.005 ? 0 : value).toFixed(2).replace("-", "−");

  let moving = false;
  let time = 0;
  let last = 0;
  const step = (now) => {
    if (!moving) return;
    time += Math.min(now - last, 50) / 1000;
    last = now;
    sliders.shift.value = 4 * Math.sin(0.9 * time);
    sliders.spread.value = 0.95 + 0.7 * Math.sin(1.7 * time);
    update();
    requestAnimationFrame(step);
  };
  const move = (on) => {
    moving = on;
    button.textContent = on ? "Pause" : "Play";
    last = performance.now();
    if (on) requestAnimationFrame(step);
  };

  button.addEventListener("click", () => move(!moving));
  for (const input of Object.values(sliders)) {
    input.addEventListener("input", () => {
      if (input === sliders.shift || input === sliders.spread) move(false);
      update();
    });
  }
  new ResizeObserver(update).observe(svg);
  figure.classList.add("ready");
  move(!matchMedia("(prefers-reduced-motion: reduce)").matches);
  update();
};

document.addEventListener("DOMContentLoaded", () => {
  const figure = document.getElementById("landing-figure");
  if (figure) start(figure);
});
