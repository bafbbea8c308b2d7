// report.js: theme, the selected variant, filtering of flips. The page is complete and readable without it.
(function () {
  'use strict';
  var root = document.documentElement, themes = ['auto', 'light', 'dark'];

  // A file on disk may have no storage: then the choice lasts as long as the page.
  function remember(value) { try { localStorage.setItem('assay-theme', value); } catch (e) { /* not allowed here */ } }
  function remembered() { try { return localStorage.getItem('assay-theme'); } catch (e) { return null; } }
  function setTheme(name) {
    if (themes.indexOf(name) < 0) name = 'auto';
    if (name === 'auto') root.removeAttribute('data-theme'); else root.setAttribute('data-theme', name);
    var b = document.getElementById('theme');
    if (b) b.textContent = 'Theme: ' + (name === 'auto' ? 'automatic' : name);
    return name;
  }
  var asked = /[#&]theme=(auto|light|dark)/.exec(location.hash);
  var theme = setTheme(asked ? asked[1] : remembered() || 'auto'); // before the first paint

  function all(selector, from) { return Array.prototype.slice.call((from || document).querySelectorAll(selector)); }

  document.addEventListener('DOMContentLoaded', function () {
    var button = document.getElementById('theme');
    button.hidden = false;
    theme = setTheme(theme);
    button.addEventListener('click', function () {
      theme = setTheme(themes[(themes.indexOf(theme) + 1) % themes.length]);
      remember(theme);
    });

    var bar = document.getElementById('switch'), filters = document.getElementById('flip-filters');
    var radios = all('button', bar), panels = all('.panel'), flips = all('.flip');
    var current = bar.getAttribute('data-start'), page = 10, limit = page; // flips shown at first, and added by a click

    function select(index, focus) {
      current = String(index);
      radios.forEach(function (b) {
        var on = b.getAttribute('data-variant') === current;
        b.setAttribute('aria-checked', on ? 'true' : 'false');
        b.tabIndex = on ? 0 : -1;
        if (on && focus) b.focus();
        if (on) b.parentNode.scrollLeft = b.offsetLeft - b.parentNode.offsetLeft - 24; // the page itself stays where it is
        if (on && focus) b.scrollIntoView({ block: 'nearest', inline: 'nearest' });
      });
      limit = page;
      panels.forEach(function (p) { p.classList.toggle('off', p.getAttribute('data-variant') !== current); });
      filter();
    }

    function filter() {
      if (!filters) return;
      var dimension = filters.elements.dimension.value, way = filters.elements.way.value;
      var words = filters.elements.words.value.toLowerCase().split(/\s+/).filter(Boolean), shown = 0, total = 0, found = 0;
      flips.forEach(function (f) {
        if (f.getAttribute('data-variant') !== current) return;
        var text = words.length ? f.textContent.toLowerCase() : '';
        var ok = (!dimension || f.getAttribute('data-dimension') === dimension) && (!way || f.getAttribute('data-way') === way) &&
          words.every(function (w) { return text.indexOf(w) >= 0; });
        total++;
        if (ok) found++;
        f.hidden = !ok || found > limit;
      });
      shown = Math.min(found, limit);
      filters.querySelector('output').textContent = found === total ? total + (total === 1 ? ' flip' : ' flips') : found + ' of ' + total + ' flips';
      all('.more').forEach(function (b) { b.hidden = found <= limit; b.textContent = found - shown <= page ? 'Show the other ' + (found - shown) : 'Show ' + page + ' more of ' + (found - shown); });
    }

    bar.hidden = radios.length < 2;
    radios.forEach(function (b, i) {
      b.addEventListener('click', function () { select(b.getAttribute('data-variant'), true); });
      b.addEventListener('keydown', function (e) {
        var step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[e.key];
        if (!step) return;
        e.preventDefault();
        select(radios[(i + step + radios.length) % radios.length].getAttribute('data-variant'), true);
      });
    });
    all('tr[data-pick]').forEach(function (row) {
      row.classList.add('pickable');
      row.addEventListener('click', function () { select(row.getAttribute('data-pick'), false); });
    });
    if (filters) {
      filters.hidden = false;
      filters.addEventListener('input', function () { limit = page; filter(); });
      all('.more').forEach(function (b) { b.addEventListener('click', function () { limit += page; filter(); }); });
      filters.addEventListener('submit', function (e) { e.preventDefault(); });
    }
    window.addEventListener('beforeprint', function () { all('details').forEach(function (d) { d.open = true; }); });
    select(current, false);

    // For the tests of this page: what a person at this width would have to scroll sideways, and what was asked of the network.
    root.setAttribute('data-requests', String(performance.getEntriesByType('resource').length));
    root.setAttribute('data-overflow', String(document.scrollingElement.scrollWidth - root.clientWidth));
    root.setAttribute('data-ready', 'yes');
  });
})();
