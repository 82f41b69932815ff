// SPDX-License-Identifier: GPL-2.0-only
// Chooses and orders what the list of findings shows; it is complete without.
'use strict';

const form = document.getElementById('choose');
const list = document.getElementById('list');

if (form) {
	const drivers = [...list.tBodies].map((body, place) => ({
		body, place,
		year: Number(body.dataset.year),
		name: body.rows[0].textContent.toLowerCase(),
		lines: [...body.rows].slice(1).map(row => ({
			row, text: row.textContent.toLowerCase(),
		})),
	}));
	const total = drivers.reduce((sum, one) => sum + one.lines.length, 0);
	const fields = ['kind', 'severity', 'rule', 'subsystem'];
	// a driver without a year is the last both ways
	const orders = {
		'': (a, b) => a.place - b.place,
		count: (a, b) => b.shown - a.shown || a.place - b.place,
		newest: (a, b) => b.year - a.year || a.place - b.place,
		oldest: (a, b) => !a.year - !b.year || a.year - b.year ||
			a.place - b.place,
	};

	const choose = () => {
		const words = form.elements.words.value.toLowerCase().split(/\s+/);
		const wanted = fields.filter(name => form.elements[name].value);
		let shown = 0;
		for (const driver of drivers) {
			driver.shown = 0;
			for (const {row, text} of driver.lines) {
				row.hidden = !wanted.every(name =>
					row.dataset[name] === form.elements[name].value) ||
					!words.every(word => text.includes(word) ||
						driver.name.includes(word));
				driver.shown += !row.hidden;
			}
			driver.body.hidden = !driver.shown;
			shown += driver.shown;
		}
		const order = orders[form.elements.order.value];
		list.append(...[...drivers].sort(order).map(one => one.body));
		form.querySelector('output').value =
			`${shown} of ${total} findings are shown`;
	};

	form.addEventListener('input', choose);
	form.addEventListener('submit', event => event.preventDefault());
	form.hidden = false;
	choose();
}
