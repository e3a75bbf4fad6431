"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const SVG = "http://www.w3.org/2000/svg";
  const svg = (name, attributes, text) => {
    const node = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const html = (name, attributes, text) => {
    const node = Object.assign(document.createElement(name), attributes);
    if (text !== undefined) node.textContent = text;
    return node;
  };

  const bytes = (n) => {
    const units = ["B", "kB", "MB", "GB", "TB"];
    let unit = 0;
    while (n >= 999.5 && unit < units.length - 1) { n /= 1000; unit += 1; }
    return `${unit ? n.toFixed(n < 9.995 ? 2 : 1) : Math.round(n)} ${units[unit]}`;
  };
  const count = (n) => n.toLocaleString("en");
  const error = (e) => (e === undefined ? "" : e === null ? "not finite" : e === 0 ? "0" : e.toExponential(1));
  const decibel = (e) => (e ? (-10 * Math.log10(e)).toFixed(1) : e === 0 ? "∞" : "");
  const bitsOf = (t) => (t.n ? (8 * t.bytes) / t.n : 0);

  // --- head
  document.title = `${data.name} · nncodec report`;
  at("title").textContent = data.name;
  at("lead").textContent = `${count(data.tensors.length)} tensors` + (data.against ? `, compared with ${data.against}` : "");
  const tile = (value, label) => {
    const box = html("div", { className: "tile" });
    box.append(html("b", {}, value), html("span", {}, label));
    at("tiles").append(box);
  };
  tile(bytes(data.bytes), "file");
  tile(bytes(data.raw), "decoded");
  tile((data.raw / data.bytes).toFixed(2), "ratio");
  tile(count(data.weights), "weights");
  if (data.weights) tile(((8 * data.bytes) / data.weights).toFixed(3), "bits per weight");
  if (data.rel_mse !== null) tile(error(data.rel_mse), `relative squared error (${decibel(data.rel_mse)} dB)`);
  const scheme = at("scheme");
  scheme.addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.scheme ? root.dataset.scheme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.scheme = dark ? "light" : "dark";
    drawTreemap();
  });

  // --- treemap: modules, and their tensors in them, squarified (Bruls, Huizing and van Wijk, 2000)
  const squarify = (items, x, y, width, height, place) => {
    let rest = items.slice().sort((a, b) => b.size - a.size);
    let total = rest.reduce((sum, item) => sum + item.size, 0);
    while (rest.length && width > 0 && height > 0 && total > 0) {
      const side = Math.min(width, height);
      const scale = (width * height) / total;
      let taken = 0, area = 0, worst = Infinity;
      while (taken < rest.length) {
        const next = area + rest[taken].size * scale;
        const largest = rest[0].size * scale, smallest = rest[taken].size * scale;
        const ratio = Math.max((side * side * largest) / (next * next), (next * next) / (side * side * smallest));
        if (ratio > worst) break;
        worst = ratio; area = next; taken += 1;
      }
      const depth = area / side;
      let offset = 0;
      for (const item of rest.slice(0, taken)) {
        const length = (item.size * scale) / depth;
        if (width >= height) place(item, x, y + offset, depth, length);
        else place(item, x + offset, y, length, depth);
        offset += length; total -= item.size;
      }
      if (width >= height) { x += depth; width -= depth; } else { y += depth; height -= depth; }
      rest = rest.slice(taken);
    }
  };
  const modules = () => {
    const groups = new Map();
    for (const [index, tensor] of data.tensors.entries()) {
      if (!(tensor.bytes > 0)) continue;
      const cut = tensor.name.lastIndexOf(".");
      const module = cut < 0 ? tensor.name : tensor.name.slice(0, cut);
      if (!groups.has(module)) groups.set(module, { name: module, size: 0, items: [] });
      const group = groups.get(module);
      group.items.push({ index, tensor, size: tensor.bytes });
      group.size += tensor.bytes;
    }
    if (data.other_bytes > 0) groups.set("", { name: "headers, index", size: data.other_bytes, items: [] });
    return [...groups.values()];
  };
  const groups = modules();
  // No Math.max(...list): an engine takes some ten thousand arguments, and a file may hold more tensors.
  const most = (list) => list.reduce((a, b) => Math.max(a, b), -Infinity);
  const least = (list) => list.reduce((a, b) => Math.min(a, b), Infinity);
  const mostBits = Math.max(1e-9, most(data.tensors.filter((t) => t.n >= 1024).map(bitsOf)));
  const shade = (bits) => {
    const style = getComputedStyle(document.documentElement);
    const ends = ["--low", "--high"].map((name) => style.getPropertyValue(name).trim().split(/\s+/).map(Number));
    const share = Math.min(1, bits / mostBits);
    const colour = ends[0].map((low, i) => Math.round(low + (ends[1][i] - low) * share));
    return { fill: `rgb(${colour})`, ink: colour[0] * 0.3 + colour[1] * 0.6 + colour[2] * 0.1 > 130 ? "#111" : "#fff" };
  };
  const label = (to, text, x, y, width, ink) => {
    const letters = Math.floor((width - 8) / 6.2);
    if (letters < 3) return;
    const shown = text.length > letters ? `${text.slice(0, letters - 1)}…` : text;
    to.append(svg("text", { x: x + 4, y, style: `fill:${ink}` }, shown));
  };
  // A figure's boxes are one stop of the Tab key, the chosen one; from there arrows go to the box on that side, page keys
  // along the order of drawing, so that every box can be reached, Home and End to the first and the last.
  const DIRECTIONS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const beside = (boxes, from, [dx, dy]) => {
    const here = from.getBoundingClientRect();
    let best = null, least = Infinity;
    for (const box of boxes) {
      const there = box.getBoundingClientRect();
      const along = dx ? (dx > 0 ? there.left - here.right : here.left - there.right)
        : dy > 0 ? there.top - here.bottom : here.top - there.bottom;
      const [low, high, start, end] = dx ? [here.top, here.bottom, there.top, there.bottom] : [here.left, here.right, there.left, there.right];
      const apart = Math.max(0, start - high, low - end); // 0 where they face each other
      const off = Math.abs(start + end - low - high) / 2;
      const cost = along + 4 * apart + off / 8;
      if (box !== from && along > -1 && cost < least) { least = cost; best = box; }
    }
    return best;
  };
  const boxesOf = (figure) => [...figure.querySelectorAll(".tensor")];
  for (const figure of [at("treemap"), at("errors")]) {
    figure.addEventListener("keydown", (event) => {
      if (event.altKey || event.ctrlKey || event.metaKey) return;
      const boxes = boxesOf(figure), from = boxes.indexOf(document.activeElement);
      if (from < 0) return;
      const steps = { PageUp: from - 1, PageDown: from + 1, Home: 0, End: boxes.length - 1, Enter: from, " ": from };
      const to = event.key in DIRECTIONS ? beside(boxes, boxes[from], DIRECTIONS[event.key]) : boxes[steps[event.key]];
      if (event.key in DIRECTIONS || event.key in steps) event.preventDefault();
      if (to) { choose(Number(to.dataset.index)); to.focus(); }
    });
  }
  const reachable = (box, about) => {
    box.setAttribute("role", "option");
    box.setAttribute("aria-label", about);
    box.append(svg("title", {}, about));
  };
  function drawTreemap() {
    const map = at("treemap");
    const held = map.contains(document.activeElement);
    map.replaceChildren();
    const { width, height } = map.getBoundingClientRect();
    map.setAttribute("viewBox", `0 0 ${width} ${height}`);
    squarify(groups, 0, 0, width, height, (group, x, y, w, h) => {
      if (!group.items.length) {
        map.append(svg("rect", { x, y, width: w, height: h, fill: "var(--line)" }));
        if (h > 14) label(map, group.name, x, y + 13, w, "var(--ink)");
        return;
      }
      squarify(group.items, x, y, w, h, (item, ix, iy, iw, ih) => {
        const colour = shade(bitsOf(item.tensor));
        const box = svg("rect", {
          x: ix, y: iy, width: iw, height: ih, fill: colour.fill, class: "tensor", "data-index": item.index,
        });
        const about = `${item.tensor.name}\n${bytes(item.tensor.bytes)}, ${bitsOf(item.tensor).toFixed(3)} bits per weight`;
        reachable(box, about);
        box.addEventListener("click", () => choose(item.index));
        map.append(box);
        if (ih > 16) label(map, item.tensor.name, ix, iy + 13, iw, colour.ink);
        if (ih > 30) label(map, bytes(item.tensor.bytes), ix, iy + 27, iw, colour.ink);
      });
      map.append(svg("rect", { x, y, width: w, height: h, class: "module" }));
    });
    mark();
    if (held) map.querySelector('[tabindex="0"]')?.focus();
  }
  at("legend").append(html("span", {}, "0"), html("i"), html("span", {}, `${mostBits.toFixed(2)} bits per weight`));

  // --- charts
  const frame = (node, wide) => {
    node.replaceChildren();
    const { width, height } = node.getBoundingClientRect();
    node.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const box = { left: wide ? 46 : 10, right: width - 12, top: 8, bottom: height - 34 };
    node.append(svg("path", { d: `M${box.left},${box.top}V${box.bottom}H${box.right}`, class: "axis", fill: "none" }));
    return box;
  };
  const decades = (node, box, low, high, y) => {
    const step = Math.max(1, Math.ceil((high - low) / 6));
    for (let power = Math.ceil(low); power <= high; power += step) {
      node.append(svg("line", { x1: box.left, x2: box.right, y1: y(power), y2: y(power), class: "axis" }));
      node.append(svg("text", { x: box.left - 5, y: y(power) + 4, "text-anchor": "end", class: "soft" }, `1e${power}`));
    }
  };
  const hues = ["var(--accent)", "var(--second)", "var(--soft)"];

  function drawCurve() {
    if (!data.curves.length) { at("curve-section").remove(); drawCurve = () => {}; return; }
    const node = at("curve"), box = frame(node, true);
    const here = data.rel_mse > 0 ? [(8 * data.bytes) / data.weights, data.rel_mse] : null;
    const points = data.curves.flatMap((curve) => curve.points).concat(here ? [here] : []);
    const bits = points.map((p) => p[0]), logs = points.map((p) => Math.log10(p[1]));
    const x0 = Math.max(0, Math.floor(least(bits))), x1 = Math.ceil(most(bits) + 0.2);
    const y0 = least(logs) - 0.2, y1 = most(logs) + 0.2;
    const x = (b) => box.left + ((b - x0) / (x1 - x0)) * (box.right - box.left);
    const y = (l) => box.bottom - ((l - y0) / (y1 - y0)) * (box.bottom - box.top);
    decades(node, box, y0, y1, y);
    const step = Math.max(1, Math.ceil((x1 - x0) / 8));
    for (let b = x0; b <= x1; b += step)
      node.append(svg("text", { x: x(b), y: box.bottom + 14, "text-anchor": "middle", class: "soft" }, b));
    node.append(svg("text", { x: box.right, y: box.bottom + 28, "text-anchor": "end", class: "soft" }, "bits per weight"));
    data.curves.forEach((curve, i) => {
      const line = curve.points.map((p) => `${x(p[0])},${y(Math.log10(p[1]))}`);
      node.append(svg("polyline", { points: line.join(" "), fill: "none", stroke: hues[i % 3], "stroke-width": 2 }));
      for (const p of line) {
        const [cx, cy] = p.split(",");
        node.append(svg("circle", { cx, cy, r: 3, fill: hues[i % 3] }));
      }
      node.append(svg("text", { x: box.right - 4, y: box.top + 14 * (i + 1), "text-anchor": "end",
        style: `fill:${hues[i % 3]}` }, curve.codec));
    });
    if (here) {
      node.append(svg("circle", { cx: x(here[0]), cy: y(Math.log10(here[1])), r: 7, fill: "none", stroke: "var(--ink)",
        "stroke-width": 2, id: "this-file" }));
    }
  }

  function drawErrors() {
    const compared = data.tensors.map((t, index) => ({ t, index })).filter(({ t }) => t.rel_mse !== undefined && t.rel_mse !== null);
    if (!compared.length) { at("error-section").remove(); drawErrors = () => {}; return; }
    const node = at("errors"), box = frame(node, true);
    const logs = compared.map(({ t }) => (t.rel_mse > 0 ? Math.log10(t.rel_mse) : null));
    const real = logs.filter((l) => l !== null);
    const y0 = real.length ? Math.floor(least(real)) - 0.5 : -1, y1 = real.length ? most(real) + 0.3 : 0;
    const y = (l) => box.bottom - ((l - y0) / (y1 - y0)) * (box.bottom - box.top);
    decades(node, box, y0, y1, y);
    const width = (box.right - box.left) / compared.length;
    compared.forEach(({ t, index }, i) => {
      const top = logs[i] === null ? box.bottom - 2 : y(logs[i]);
      const bar = svg("rect", { x: box.left + i * width, y: top, width: Math.max(0.6, width - (width > 3 ? 1 : 0)),
        height: box.bottom - top, fill: logs[i] === null ? "var(--line)" : "var(--accent)", class: "tensor", "data-index": index });
      reachable(bar, `${t.name}\n${t.rel_mse ? `${error(t.rel_mse)}, ${decibel(t.rel_mse)} dB` : "exact"}`);
      bar.addEventListener("click", () => choose(index));
      node.append(bar);
    });
    mark();
  }

  const facts = (list, entries) => {
    list.replaceChildren();
    for (const [key, value] of entries) {
      if (value === "" || value === undefined || value === null) continue;
      list.append(html("dt", {}, key), html("dd", {}, String(value)));
    }
  };
  function drawDetail() {
    const tensor = data.tensors[chosen];
    at("detail-name").textContent = tensor ? tensor.name : "";
    if (!tensor) return;
    const node = at("histogram"), box = frame(node, false);
    const bars = tensor.decoded ?? [];
    if (bars.length) {
      const width = (box.right - box.left) / bars.length;
      const path = (heights, closed) => heights.map((h, i) => {
        const y = box.bottom - (h / 1000) * (box.bottom - box.top - 16);
        return `${i ? "L" : "M"}${box.left + i * width},${y}H${box.left + (i + 1) * width}`;
      }).join("") + (closed ? `V${box.bottom}H${box.left}Z` : "");
      node.append(svg("path", { d: path(bars, true), fill: "var(--accent)", "fill-opacity": 0.45 }));
      if (tensor.original)
        node.append(svg("path", { d: path(tensor.original, false), fill: "none", stroke: "var(--second)", "stroke-width": 1.5 }));
      const [low, high] = tensor.range;
      node.append(svg("text", { x: box.left, y: box.bottom + 14, class: "soft" }, low.toPrecision(3)));
      node.append(svg("text", { x: box.right, y: box.bottom + 14, "text-anchor": "end", class: "soft" }, high.toPrecision(3)));
      node.append(svg("text", { x: box.left + 4, y: box.top + 10, style: "fill:var(--accent)" }, "decoded"));
      if (tensor.original)
        node.append(svg("text", { x: box.left + 60, y: box.top + 10, style: "fill:var(--second)" }, "original"));
    } else {
      node.append(svg("text", { x: box.left + 8, y: box.top + 20, class: "soft" }, "no histogram"));
    }
    facts(at("detail-facts"), [
      ["codec", tensor.alias ? `the same memory as ${tensor.alias}` : tensor.codec],
      ["type", `${tensor.type}, ${tensor.shape.join(" × ") || "scalar"}`],
      ["bytes", `${count(Math.round(tensor.bytes))} (${bitsOf(tensor).toFixed(3)} bits per weight)`],
      ["relative squared error", tensor.rel_mse === undefined ? "" : tensor.rel_mse === null ? error(null) : `${error(tensor.rel_mse)} (${decibel(tensor.rel_mse)} dB)`],
      ["largest error", tensor.largest === undefined ? "" : error(tensor.largest)],
      ...Object.entries(tensor.options),
    ]);
  }

  // --- table
  const compared = data.tensors.some((t) => t.rel_mse !== undefined);
  const columns = [
    { key: "name", title: "Tensor", text: true, value: (t) => t.name, show: (t) => t.name },
    { key: "codec", title: "Codec", text: true, value: (t) => t.codec, show: (t) => (t.alias ? `= ${t.alias}` : t.codec) },
    { key: "type", title: "Type", text: true, value: (t) => t.type, show: (t) => t.type },
    { key: "shape", title: "Shape", value: (t) => t.n, show: (t) => t.shape.join("×") || "scalar" },
    { key: "bytes", title: "Bytes", value: (t) => t.bytes, show: (t) => count(Math.round(t.bytes)) },
    { key: "share", title: "Share", value: (t) => t.bytes, show: (t) => `${((100 * t.bytes) / data.bytes).toFixed(1)} %` },
    { key: "bits", title: "Bits/weight", value: bitsOf, show: (t) => bitsOf(t).toFixed(3) },
  ];
  if (compared) {
    columns.push({ key: "error", title: "Rel. error", value: (t) => (t.rel_mse === null ? Infinity : t.rel_mse ?? -1), show: (t) => error(t.rel_mse) });
    columns.push({ key: "snr", title: "dB", value: (t) => (t.rel_mse === null ? -Infinity : -(t.rel_mse ?? Infinity)), show: (t) => decibel(t.rel_mse) });
  }
  const state = new URLSearchParams(location.hash.slice(1));
  let sorted = columns.some((c) => c.key === state.get("sort")) ? state.get("sort") : "";
  let falling = state.get("order") !== "rising";
  let chosen = data.tensors.findIndex((t) => t.name === state.get("tensor"));
  if (chosen < 0) chosen = data.tensors.reduce((best, t, i) => (t.bytes > data.tensors[best].bytes ? i : best), 0);
  const MOST_ROWS = 1000;

  const headRow = html("tr");
  for (const column of columns) {
    const cell = html("th", { className: column.text ? "text" : "" });
    const button = html("button", { type: "button" }, column.title);
    button.addEventListener("click", () => {
      falling = sorted === column.key ? !falling : !column.text;
      sorted = column.key;
      remember(); drawTable();
    });
    cell.append(button);
    headRow.append(cell);
  }
  at("table").tHead.append(headRow);
  function drawTable() {
    const wanted = at("filter").value.toLowerCase();
    const rows = data.tensors.map((t, index) => ({ t, index })).filter(({ t }) => t.name.toLowerCase().includes(wanted));
    const column = columns.find((c) => c.key === sorted);
    if (column) {
      const sign = falling ? -1 : 1;
      rows.sort((a, b) => {
        const u = column.value(a.t), v = column.value(b.t);
        return sign * (u < v ? -1 : u > v ? 1 : 0);
      });
    }
    [...headRow.children].forEach((cell, i) => {
      cell.setAttribute("aria-sort", columns[i].key !== sorted ? "none" : falling ? "descending" : "ascending");
      cell.firstChild.textContent = columns[i].title + (columns[i].key === sorted ? (falling ? " ↓" : " ↑") : "");
    });
    const body = document.createDocumentFragment();
    for (const { t, index } of rows.slice(0, MOST_ROWS)) {
      const row = html("tr");
      row.dataset.index = index;
      for (const c of columns) {
        const cell = html("td", { className: (c.text ? "text " : "") + (c.key === "name" ? "name" : "") }, c.show(t));
        if (c.key === "name") cell.title = t.name;
        row.append(cell);
      }
      row.addEventListener("click", () => choose(index));
      body.append(row);
    }
    at("table").tBodies[0].replaceChildren(body);
    const cut = rows.length > MOST_ROWS ? `first ${count(MOST_ROWS)} of ` : "";
    at("shown").textContent = `${cut}${count(rows.length)} tensors`;
    mark();
  }
  function mark() {
    for (const node of document.querySelectorAll("[data-index]"))
      node.classList.toggle("chosen", Number(node.dataset.index) === chosen);
    for (const figure of [at("treemap"), at("errors")]) {
      const boxes = figure ? boxesOf(figure) : [];
      const stop = boxes.find((box) => box.classList.contains("chosen")) ?? boxes[0];
      for (const box of boxes) {
        box.setAttribute("tabindex", box === stop ? 0 : -1);
        box.setAttribute("aria-selected", box.classList.contains("chosen"));
      }
    }
  }
  function remember() {
    const next = new URLSearchParams();
    if (sorted) { next.set("sort", sorted); next.set("order", falling ? "falling" : "rising"); }
    if (data.tensors[chosen]) next.set("tensor", data.tensors[chosen].name);
    // A page inside another one (a preview, a sandboxed frame) may not change its address.
    try { history.replaceState(null, "", `#${next}`); } catch (refused) { console.debug(refused); }
  }
  function choose(index) {
    chosen = index;
    remember(); mark(); drawDetail();
  }

  at("filter").addEventListener("input", drawTable);
  const metadata = Object.entries(data.metadata);
  if (metadata.length) facts(at("metadata"), metadata);
  else at("metadata-section").remove();
  if (!data.tensors.length) at("detail").remove();
  const draw = () => { drawTreemap(); drawCurve(); drawErrors(); if (data.tensors.length) drawDetail(); };
  drawTable();
  draw();
  let drawn = document.body.clientWidth;
  new ResizeObserver(() => {
    if (document.body.clientWidth === drawn) return;
    drawn = document.body.clientWidth;
    draw();
  }).observe(document.body);
})();
