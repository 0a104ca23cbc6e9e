"use strict";

// Charts: one view of each is drawn at a time, when it comes near the window, in the colours of the page.
function colours() {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(name).trim();
  return { text: read("--text"), line: read("--line") };
}

function themed(layout) {
  const { text, line } = colours();
  const axis = (own) => ({ gridcolor: line, linecolor: line, zerolinecolor: line, ...own });
  const narrow = window.innerWidth < 640;
  const legend = narrow ? { orientation: "h", y: -0.25, ...layout.legend } : { ...layout.legend };
  return {
    ...layout,
    legend,
    margin: { ...layout.margin, t: 40 }, // the tool bar stands there
    height: layout.height + (narrow && layout.legend ? 140 : 0),
    modebar: { bgcolor: "rgba(0,0,0,0)", color: line, activecolor: text },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: text, family: "system-ui, sans-serif", size: 12 },
    xaxis: axis(layout.xaxis),
    yaxis: axis(layout.yaxis),
  };
}

// Plotly is most of the report's size: it is loaded once, when the first chart comes near the window.
let plotly;

function loadPlotly() {
  plotly ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = document.body.dataset.plotly;
    script.addEventListener("load", () => resolve(window.Plotly));
    script.addEventListener("error", () => reject(new Error(`${script.src} is missing: copy the whole folder`)));
    document.head.append(script);
  });
  return plotly;
}

async function draw(figure) {
  const library = await loadPlotly();
  const views = JSON.parse(figure.querySelector("script").textContent);
  const choice = figure.querySelector("select");
  const view = views[choice ? choice.selectedIndex : 0];
  const options = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d"] };
  await library.react(figure.querySelector(".plot"), view.data, themed(view.layout), options);
  figure.dataset.drawn = "1";
}

function startCharts() {
  const figures = [...document.querySelectorAll("figure.chart")];
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) {
        near.unobserve(entry.target);
        draw(entry.target);
      }
    }
  }, { rootMargin: "600px" });
  for (const figure of figures) {
    near.observe(figure);
    figure.querySelector("select")?.addEventListener("change", () => draw(figure));
  }
  const again = () => figures.filter((figure) => figure.dataset.drawn).forEach(draw);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
}

// Tables: sorted by data-order, where a missing number comes last in both directions; lists filter by a column's value.
function byNumber(sign) {
  return (a, b) => {
    const [missingA, missingB] = [a === "", b === ""];
    if (missingA || missingB) return missingA - missingB;
    return sign * (a - b);
  };
}

function addChoices(table, api, bar) {
  for (const head of table.querySelectorAll("thead th[data-choice]")) {
    const column = api.column(head);
    const title = head.textContent.trim();
    const values = [...new Set(column.nodes().toArray().map((cell) => cell.textContent))].sort();
    if (values.length < 2) continue;
    const label = document.createElement("label");
    const select = document.createElement("select");
    select.dataset.column = title;
    select.append(new Option("all", ""));
    values.forEach((value) => select.append(new Option(value, value)));
    select.addEventListener("change", () => {
      const value = select.value;
      column.search(value === "" ? "" : (text) => text === value).draw();
    });
    label.append(`${title} `, select);
    bar.append(label);
  }
}

function startTables(module) {
  const DataTable = module.default;
  module.set_or_remove_dark_class();
  DataTable.type("number-or-missing", { order: { asc: byNumber(1), desc: byNumber(-1) } });
  for (const table of document.querySelectorAll(".table table")) {
    const numbers = [...table.querySelectorAll("thead th.number")].map((head) => head.cellIndex);
    const many = table.tBodies[0].rows.length > 50;
    new module.ITable(table, {
      order: [],
      autoWidth: false,
      paging: many,
      pageLength: 50,
      columnDefs: [{ targets: numbers, type: "number-or-missing", orderSequence: ["desc", "asc", ""] }],
      layout: {
        topStart: document.createElement("div"),
        topEnd: { search: { placeholder: "part of a row" } },
        bottomStart: many ? "info" : null,
        bottomEnd: many ? "paging" : null,
      },
    });
    const api = new DataTable.Api(table);
    const container = api.table().container();
    const bar = container.querySelector(".dt-layout-start > div") ?? container.querySelector(".dt-layout-start");
    bar.className = "choices";
    addChoices(table, api, bar);
    const scroll = container.querySelector(".dt-layout-table");
    scroll.tabIndex = 0;
    scroll.setAttribute("role", "group");
    scroll.setAttribute("aria-label", "Table; scroll with the arrow keys");
  }
  document.documentElement.dataset.tables = "ready";
}

// Gallery: a picture opens in full size; Escape closes it.
function startGallery() {
  const viewer = document.getElementById("viewer");
  const image = viewer.querySelector("img");
  document.querySelectorAll("button.open").forEach((button) => {
    button.addEventListener("click", () => {
      image.src = button.dataset.picture;
      image.alt = button.querySelector("img").alt;
      viewer.querySelector("p").textContent = button.dataset.title;
      viewer.showModal();
    });
  });
  viewer.addEventListener("click", (event) => event.target === viewer && viewer.close());
}

startGallery();
window.addEventListener("load", startCharts);
window.reportTables.then(startTables);
